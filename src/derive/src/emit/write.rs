//! The writer.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::{access, any, length_name, local_name};
use crate::model::{Field, Kind, Measure, Model, Role};

/// Writing a header, and its default.
pub(super) fn write(model: &Model) -> TokenStream {
    let (header, wire, fixed_len) = (any(model), &model.wire, model.fixed_len);
    let derived = quote!(#wire::describe::derived);
    let name = format_ident!("{}Mut", model.ident);
    let tails: Vec<_> = model.tails().map(|tail| &tail.ident).collect();
    let lens: Vec<_> = tails.iter().map(|tail| length_name(tail)).collect();
    let locals: Vec<_> = tails.iter().map(|tail| local_name(tail)).collect();
    let measures: Vec<_> = model.tails().map(|tail| measure(model, tail)).collect();
    let fixed = quote!(fixed);
    let lengths = model
        .fixed()
        .filter_map(|field| length(model, field, &derived));
    let writes = model.fixed().map(|field| {
        let ident = &field.ident;
        let value = match field.role {
            Role::Plain => quote!(self.#ident),
            Role::Constant(value) => {
                let ty = &field.ty;
                quote!((#value as #ty))
            }
            Role::Length { .. } => {
                let local = local_name(ident);
                quote!(#local)
            }
            Role::Checksum(_) => return quote!(let _ = self.#ident;),
        };
        let write = access::write(field, &fixed, &value);
        quote!(let _ = self.#ident; #write)
    });
    let default = default(model);
    quote! {
        #[automatically_derived]
        #[allow(dead_code, unused_parens, unused_variables, clippy::all)]
        impl #header {
            /// How many bytes the header will have.
            #[inline]
            pub fn header_len(&self) -> usize {
                #(#measures)*
                #fixed_len #(+ #lens)*
            }

            /// Writes the header to the front of `buf` with its constants and lengths. The payload, which follows
            /// it, is left as it is; if there is a checksum, `fill_checksum` comes last.
            ///
            /// # Errors
            /// `buf` is too short for header and payload, or a length is more than its field can say; nothing was
            /// written then.
            #[inline]
            pub fn emit<'buf>(
                &self,
                buf: &'buf mut [u8],
                payload_len: usize,
            ) -> ::core::result::Result<#name<'buf>, #wire::EmitError> {
                #(#measures)*
                let header_len = #fixed_len #(+ #lens)*;
                #(#lengths)*
                let (fixed, rest) = #derived::place::<#fixed_len>(buf)?;
                let before = #fixed_len;
                #(
                    let (#locals, rest) = #derived::room(rest, #lens, before)?;
                    let before = before + #lens;
                )*
                let (payload, _) = #derived::room(rest, payload_len, before)?;
                #(#derived::fill(#locals, self.#tails);)*
                *fixed = [0; #fixed_len];
                #(#writes)*
                Ok(#name { fixed, #(#tails: #locals,)* payload })
            }
        }

        #default
    }
}

/// `let options_len = …`: with the zeros that fill it up to whole units.
fn measure(model: &Model, tail: &Field) -> TokenStream {
    let (ident, name) = (&tail.ident, length_name(&tail.ident));
    if let Some((_, unit)) = model.length_of(&Measure::Tail(tail.name.clone())) {
        let unit = unit as usize;
        return quote!(let #name = self.#ident.len().next_multiple_of(#unit););
    }
    // It is the last, and its length is what the header's leaves.
    let unit = model
        .length_of(&Measure::Header)
        .map_or(1, |(_, unit)| unit as usize);
    let fixed_len = model.fixed_len;
    let others = model
        .tails()
        .filter(|other| other.ident != tail.ident)
        .map(|other| length_name(&other.ident));
    quote! {
        let before = #fixed_len #(+ #others)*;
        let #name = (before + self.#ident.len()).next_multiple_of(#unit) - before;
    }
}

/// `let opt_len = …`, of the field's own type.
fn length(model: &Model, field: &Field, derived: &TokenStream) -> Option<TokenStream> {
    let Role::Length { of, unit } = &field.role else {
        return None;
    };
    let (ident, ty, unit, wire) = (&field.ident, &field.ty, *unit as usize, &model.wire);
    let len = match of {
        Measure::Header => quote!(header_len),
        Measure::Payload => quote!(payload_len),
        Measure::All => quote!(header_len.saturating_add(payload_len)),
        Measure::Tail(name) => {
            let tail = model.tails().find(|tail| tail.name == *name)?;
            let len = length_name(&tail.ident);
            quote!(#len)
        }
    };
    let (index, header, local) = (model.index(field), any(model), local_name(ident));
    Some(quote! {
        let #local = #derived::say(
            &<#header as #wire::describe::Header>::DESCRIPTION.fields[#index],
            #len,
            #unit,
        )? as #ty;
    })
}

fn default(model: &Model) -> TokenStream {
    let header = any(model);
    let fields = model.fields.iter().map(|field| {
        let (ident, ty, default) = (&field.ident, &field.ty, field.default);
        let value = match field.kind {
            Kind::Uint(_) => quote!(#default as #ty),
            Kind::Bool => {
                let set = default != 0;
                quote!(#set)
            }
            Kind::Mac => quote!(#ty([0; 6])),
            Kind::Ipv4 | Kind::Ipv6 => quote!(<#ty>::UNSPECIFIED),
            Kind::Bytes => {
                let len = field.bits as usize / 8;
                quote!([0; #len])
            }
            Kind::Tail => quote!(&[]),
        };
        quote!(#ident: #value)
    });
    quote! {
        /// Constants and defaults, and zero for all other fields.
        #[automatically_derived]
        #[allow(clippy::all)]
        impl ::core::default::Default for #header {
            fn default() -> Self {
                Self { #(#fields,)* }
            }
        }
    }
}
