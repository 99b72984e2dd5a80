//! The part of a header that names a flow.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::access;
use crate::model::{Kind, Model};

pub(super) fn key(model: &Model) -> TokenStream {
    if model.keys().next().is_none() {
        return quote!();
    }
    let (vis, header) = (&model.vis, &model.ident);
    let (name, view) = (format_ident!("{header}Key"), format_ident!("{header}View"));
    let docs = format!("The part of [`{header}`] that names a flow.");
    let fields: Vec<_> = model.keys().map(|field| &field.ident).collect();
    let types: Vec<_> = model.keys().map(|field| &field.ty).collect();
    let docs_of = model.keys().map(|field| field.documentation());
    let values = model
        .keys()
        .map(|field| access::read(field, &quote!(self.fixed)));
    let (mut at, mut bytes) = (0, Vec::new());
    for field in model.keys() {
        let (ident, len) = (&field.ident, (field.ty_bits() / 8) as usize);
        let value = match field.kind {
            Kind::Uint(_) => quote!(self.#ident.to_be_bytes()),
            Kind::Bool => quote!([u8::from(self.#ident)]),
            Kind::Mac => quote!(self.#ident.0),
            Kind::Ipv4 | Kind::Ipv6 => quote!(self.#ident.octets()),
            Kind::Bytes | Kind::Tail => quote!(self.#ident),
        };
        let places = at..at + len;
        bytes.push(quote!([#(bytes[#places]),*] = #value;));
        at += len;
    }
    quote! {
        #[doc = #docs]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(dead_code)]
        #vis struct #name {
            #(#[doc = #docs_of] pub #fields: #types,)*
        }

        #[automatically_derived]
        #[allow(dead_code, clippy::all)]
        impl #name {
            /// How long [`to_bytes`](Self::to_bytes) is.
            pub const LEN: usize = #at;

            /// The fields one after the other, numbers in network byte order: something to hash.
            #[inline]
            pub fn to_bytes(&self) -> [u8; #at] {
                let mut bytes = [0; #at];
                #(#bytes)*
                bytes
            }
        }

        #[automatically_derived]
        #[allow(dead_code, clippy::all)]
        impl #view<'_> {
            /// The part that names the flow.
            #[inline]
            pub fn key(&self) -> #name {
                #name { #(#fields: #values,)* }
            }
        }
    }
}
