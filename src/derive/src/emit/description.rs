//! The description, written with the same words as those of the standard headers.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;

use super::any;
use crate::model::{Field, Kind, Measure, Model, Payload, Role};

pub(super) fn description(model: &Model) -> TokenStream {
    let wire = &model.wire;
    let describe = quote!(#wire::describe);
    let (header, name, docs) = (any(model), &model.name, &model.docs);
    let fields = model.fields.iter().map(|it| field(it, &describe));
    let under = model
        .under
        .iter()
        .map(|(space, value)| quote!(#describe::Under { space: #space, value: #value }));
    let payload = match &model.payload {
        Payload::Selected => quote!(Selected),
        Payload::Always(next) => quote!(Always(#next)),
        Payload::None => quote!(None),
    };
    let consts = consts(model);
    quote! {
        #[automatically_derived]
        impl #describe::Header for #header {
            const DESCRIPTION: &'static #describe::Description = &#describe::Description {
                name: #name,
                docs: #docs,
                fields: &#describe::layout([#(#fields),*]),
                under: &[#(#under),*],
                payload: #describe::Payload::#payload,
            };
        }

        #consts
    }
}

fn field(field: &Field, describe: &TokenStream) -> TokenStream {
    let (name, bits) = (&field.name, field.bits);
    let mut made = match field.kind {
        Kind::Uint(_) => quote!(#describe::Field::uint(#name, #bits)),
        Kind::Bool => quote!(#describe::Field::bool(#name)),
        Kind::Mac => quote!(#describe::Field::mac(#name)),
        Kind::Ipv4 => quote!(#describe::Field::ipv4(#name)),
        Kind::Ipv6 => quote!(#describe::Field::ipv6(#name)),
        Kind::Bytes => {
            let len = bits / 8;
            quote!(#describe::Field::bytes(#name, #len))
        }
        Kind::Tail => quote!(#describe::Field::tail(#name)),
    };
    let docs = &field.docs;
    if !docs.is_empty() {
        made.extend(quote!(.docs(#docs)));
    }
    match &field.role {
        Role::Plain => {}
        Role::Constant(value) => made.extend(quote!(.constant(#value))),
        Role::Length { of, unit } => {
            let of = match of {
                Measure::Tail(tail) => quote!(Tail(#tail)),
                Measure::Header => quote!(Header),
                Measure::Payload => quote!(Payload),
                Measure::All => quote!(All),
            };
            made.extend(quote!(.length(#describe::Measure::#of, #unit)));
        }
        Role::Checksum(checksum) => {
            let algorithm = format_ident!("{}", checksum.crc.unwrap_or("internet"));
            let covers = if checksum.all {
                quote!(All)
            } else {
                quote!(Header)
            };
            let pseudo = checksum.pseudo.map(|protocol| quote!(.pseudo(#protocol)));
            made.extend(quote!(.checksum(#describe::Checksum::#algorithm(#describe::Cover::#covers) #pseudo)));
        }
    }
    if !field.values.is_empty() {
        let words = if field.flags {
            quote!(flags)
        } else {
            quote!(values)
        };
        let named = field.values.iter().map(|(name, value)| {
            let name = name.unraw().to_string();
            quote!(#describe::Named::new(#name, #value))
        });
        made.extend(quote!(.#words(&[#(#named),*])));
    }
    let (default, selects) = (field.default, field.selects.iter());
    let default = (default != 0 && field.role == Role::Plain).then(|| quote!(.default(#default)));
    let little = field.little.then(|| quote!(.little()));
    let hex = field.hex.then(|| quote!(.hex()));
    let key = field.key.then(|| quote!(.key()));
    quote!(#made #default #little #hex #key #(.selects(#selects))*)
}

/// A constant for every value that has a name.
fn consts(model: &Model) -> TokenStream {
    let (header, fixed_len) = (any(model), model.fixed_len);
    let named = model.fields.iter().flat_map(|field| {
        field.values.iter().map(move |(name, value)| {
            let ident = format_ident!(
                "{}_{}",
                field.ident.unraw().to_string().to_uppercase(),
                name.unraw().to_string().to_uppercase()
            );
            let ty = &field.ty;
            let docs = format!("A value of `{}`: {}.", field.ident.unraw(), name.unraw());
            quote! {
                #[doc = #docs]
                pub const #ident: #ty = #value as #ty;
            }
        })
    });
    quote! {
        #[automatically_derived]
        #[allow(dead_code, clippy::unnecessary_cast)]
        impl #header {
            /// How long the header is without what varies, in bytes.
            pub const FIXED_LEN: usize = #fixed_len;
            #(#named)*
        }
    }
}
