//! From the model to code.

mod access;
mod description;
mod key;
mod view;
mod write;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::Ident;
use syn::ext::IdentExt as _;

use crate::model::{Measure, Model};

/// All that is made of a header.
pub(crate) fn all(model: &Model) -> TokenStream {
    let parts = [
        description::description(model),
        view::view(model),
        view::view_mut(model),
        write::write(model),
        key::key(model),
    ];
    quote!(#(#parts)*)
}

/// The header's type, with a lifetime that nobody names.
fn any(model: &Model) -> TokenStream {
    let ident = &model.ident;
    match model.lifetime {
        Some(_) => quote!(#ident<'_>),
        None => quote!(#ident),
    }
}

/// The local variable with the length of a field that varies. Fields and variables of one name would meet, hence
/// the long words.
fn length_name(tail: &Ident) -> Ident {
    format_ident!("length_of_{}", tail.unraw())
}

/// The local variable with a field itself.
fn local_name(field: &Ident) -> Ident {
    format_ident!("field_{}", field.unraw())
}

/// What the lengths in a header say: the code computes `[usize; tails]` and, if a length has it, that of the payload.
/// The bytes of the fixed part are in `fixed`.
fn extent(model: &Model) -> TokenStream {
    let wire = &model.wire;
    let describe = quote!(#wire::describe);
    let header = any(model);
    let fixed = quote!(fixed);
    let constants = model.fixed().filter_map(|field| {
        let crate::model::Role::Constant(value) = field.role else {
            return None;
        };
        let (read, index) = (access::read_u64(field, &fixed), model.index(field));
        Some(quote! {
            let found = #read;
            if found != #value {
                return Err(#wire::ParseError::BadField {
                    field: &<#header as #describe::Header>::DESCRIPTION.fields[#index],
                    found,
                });
            }
        })
    });
    let says = |of: &Measure| {
        let (field, unit) = model.length_of(of)?;
        let (read, index, unit) = (
            access::read_u64(field, &fixed),
            model.index(field),
            u64::from(unit),
        );
        let bad = quote!(#wire::ParseError::BadField {
            field: &<#header as #describe::Header>::DESCRIPTION.fields[#index],
            found: #read,
        });
        Some((quote!(#describe::derived::says(#read, #unit)), bad))
    };
    let fixed_len = model.fixed_len;
    let (mut names, mut lens) = (Vec::new(), Vec::new());
    let mut known = quote!(#fixed_len);
    for tail in model.tails() {
        let name = length_name(&tail.ident);
        if let Some((len, _)) = says(&Measure::Tail(tail.name.clone())) {
            lens.push(quote!(let #name = #len;));
        } else if let Some((len, bad)) = says(&Measure::Header) {
            lens.push(quote! {
                let Some(#name) = #len.checked_sub(#known) else {
                    return Err(#bad);
                };
            });
        }
        known = quote!(#known.saturating_add(#name));
        names.push(name);
    }
    let by_header = model
        .tails()
        .any(|tail| model.length_of(&Measure::Tail(tail.name.clone())).is_none());
    let header_len = match says(&Measure::Header) {
        // A length of the header that leaves nothing to say has to be right.
        Some((len, bad)) if !by_header => quote! {
            if #len != #known {
                return Err(#bad);
            }
        },
        _ => quote!(),
    };
    let payload = if let Some((len, _)) = says(&Measure::Payload) {
        quote!(Some(#len))
    } else if let Some((len, bad)) = says(&Measure::All) {
        quote!(match #len.checked_sub(#known) {
            Some(len) => Some(len),
            None => return Err(#bad),
        })
    } else {
        quote!(None)
    };
    let count = names.len();
    quote! {
        #(#constants)*
        #(#lens)*
        #header_len
        let payload_len: Option<usize> = #payload;
        let tails: [usize; #count] = [#(#names),*];
    }
}
