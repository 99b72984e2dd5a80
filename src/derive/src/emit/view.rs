//! The views: checked once, when they are made; no accessor can fail.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;

use super::{access, extent, length_name, local_name};
use crate::model::{Field, Kind, Model, Role};

/// The view that borrows bytes.
pub(super) fn view(model: &Model) -> TokenStream {
    let (vis, header, wire, fixed_len) = (&model.vis, &model.ident, &model.wire, model.fixed_len);
    let name = format_ident!("{header}View");
    let docs = format!("A checked view of [`{header}`] and what follows it.");
    let tails: Vec<_> = model.tails().map(|tail| &tail.ident).collect();
    let getters = model.fields.iter().map(getter);
    let (checksum, from) = (checksum_ok(model), owned(model));
    let parse = parse(model, &quote!(split), &quote!(cut));
    let lens = tails.iter().map(|tail| quote!(+ self.#tail.len()));
    quote! {
        #[doc = #docs]
        #[derive(Clone, Copy, Debug)]
        #[allow(dead_code)]
        #vis struct #name<'a> {
            fixed: &'a [u8; #fixed_len],
            #(#tails: &'a [u8],)*
            payload: &'a [u8],
        }

        #[automatically_derived]
        #[allow(dead_code, unused_parens, unused_variables, clippy::all)]
        impl<'a> #name<'a> {
            /// A view of the header at the front of `bytes`, with its payload.
            ///
            /// # Errors
            /// There are fewer bytes than the header and its lengths say, a constant has another value, or lengths
            /// contradict one another. A checksum is not looked at.
            #[inline]
            pub fn parse(bytes: &'a [u8]) -> ::core::result::Result<Self, #wire::ParseError> {
                #parse
            }

            /// How many bytes there are before the payload.
            #[inline]
            pub fn header_len(&self) -> usize {
                #fixed_len #(#lens)*
            }

            /// What follows the header: as much as a length says, or all there is.
            #[inline]
            pub fn payload(&self) -> &'a [u8] {
                self.payload
            }

            #(#getters)*
            #checksum
        }

        #from
    }
}

/// The body of `parse`. `cut` and `split` are the functions for it, mutable or not.
fn parse(model: &Model, split: &TokenStream, cut: &TokenStream) -> TokenStream {
    let (wire, fixed_len) = (&model.wire, model.fixed_len);
    let derived = quote!(#wire::describe::derived);
    let extent = extent(model);
    let names: Vec<_> = model.tails().map(|tail| &tail.ident).collect();
    let locals: Vec<_> = names.iter().map(|name| local_name(name)).collect();
    let lens: Vec<_> = names.iter().map(|name| length_name(name)).collect();
    quote! {
        let (fixed, rest) = #derived::#cut::<#fixed_len>(bytes)?;
        #extent
        let before = #fixed_len;
        let [#(#lens),*] = tails;
        #(
            let (#locals, rest) = #derived::#split(rest, #lens, before)?;
            let before = before + #lens;
        )*
        let payload = match payload_len {
            Some(len) => #derived::#split(rest, len, before)?.0,
            None => rest,
        };
        Ok(Self { fixed, #(#names: #locals,)* payload })
    }
}

fn getter(field: &Field) -> TokenStream {
    let (ident, ty, docs) = (&field.ident, &field.ty, field.documentation());
    if field.kind == Kind::Tail {
        return quote! {
            #[doc = #docs]
            #[inline]
            pub fn #ident(&self) -> &'a [u8] {
                self.#ident
            }
        };
    }
    let value = access::read(field, &quote!(self.fixed));
    quote! {
        #[doc = #docs]
        #[inline]
        pub fn #ident(&self) -> #ty {
            #value
        }
    }
}

/// The pieces that a checksum covers, without itself, and the protocol's part of a pseudo header. `this` is a view.
fn covered(model: &Model, this: &TokenStream) -> Option<(TokenStream, TokenStream)> {
    let (field, checksum) = model.checksum()?;
    let (start, end) = (field.bytes().start, field.bytes().end);
    let tails = model.tails().map(|tail| &tail.ident);
    let payload = checksum.all.then(|| quote!(#this.payload,));
    let zeros = end - start;
    let pieces = quote! {
        [
            #this.fixed.split_at(#start).0,
            &[0; #zeros],
            #this.fixed.split_at(#end).1,
            #(#this.#tails,)*
            #payload
        ]
    };
    let wire = &model.wire;
    let before = match checksum.pseudo {
        None => quote!(#wire::Sum::new()),
        Some(protocol) => quote! {{
            let len = pieces.iter().map(|piece| piece.len()).sum();
            pseudo.sum(#wire::IpProtocol(#protocol), len)
        }},
    };
    Some((pieces, before))
}

/// The expression of the right checksum.
fn right_checksum(model: &Model, this: &TokenStream) -> Option<TokenStream> {
    let (pieces, before) = covered(model, this)?;
    let (_, checksum) = model.checksum()?;
    let wire = &model.wire;
    let derived = quote!(#wire::describe::derived);
    Some(if let Some(crc) = checksum.crc {
        let crc = format_ident!("{crc}");
        quote!(#derived::#crc(&#pieces))
    } else {
        quote! {{
            let pieces: &[&[u8]] = &#pieces;
            #derived::sum(#before, pieces).checksum()
        }}
    })
}

/// The argument with the addresses, if the checksum covers them.
fn pseudo(model: &Model) -> Option<TokenStream> {
    let wire = &model.wire;
    model
        .checksum()?
        .1
        .pseudo
        .map(|_| quote!(pseudo: #wire::Pseudo))
}

fn checksum_ok(model: &Model) -> Option<TokenStream> {
    let (field, checksum) = model.checksum()?;
    let right = right_checksum(model, &quote!(self))?;
    let (ident, pseudo) = (&field.ident, pseudo(model));
    let ok = if checksum.crc.is_some() {
        quote!(self.#ident() == right)
    } else {
        // Zero is also written as ones: both have the same sum (RFC 1071).
        quote!(self.#ident() == right || self.#ident() == 0xffff && right == 0)
    };
    Some(quote! {
        /// Whether the checksum is right.
        pub fn checksum_ok(&self, #pseudo) -> bool {
            let right = #right;
            #ok
        }
    })
}

/// From the view to the values.
fn owned(model: &Model) -> TokenStream {
    let header = &model.ident;
    let name = format_ident!("{header}View");
    let target = if model.lifetime.is_some() {
        quote!(#header<'a>)
    } else {
        quote!(#header)
    };
    let fields = model.fields.iter().map(|field| &field.ident);
    let values = model.fields.iter().map(|field| &field.ident);
    quote! {
        #[automatically_derived]
        impl<'a> ::core::convert::From<#name<'a>> for #target {
            #[inline]
            fn from(view: #name<'a>) -> Self {
                Self { #(#fields: view.#values(),)* }
            }
        }
    }
}

/// The view that borrows bytes to change them.
pub(super) fn view_mut(model: &Model) -> TokenStream {
    let (vis, header, wire, fixed_len) = (&model.vis, &model.ident, &model.wire, model.fixed_len);
    let (view, name) = (format_ident!("{header}View"), format_ident!("{header}Mut"));
    let docs = format!("A checked mutable view of [`{header}`] and what follows it.");
    let tails: Vec<_> = model.tails().map(|tail| &tail.ident).collect();
    let setters = model.fields.iter().filter_map(setter);
    let parse = parse(model, &quote!(split_mut), &quote!(cut_mut));
    let checksum = fill_checksum(model);
    quote! {
        #[doc = #docs]
        #[derive(Debug)]
        #[allow(dead_code)]
        #vis struct #name<'a> {
            fixed: &'a mut [u8; #fixed_len],
            #(#tails: &'a mut [u8],)*
            payload: &'a mut [u8],
        }

        #[automatically_derived]
        #[allow(dead_code, unused_parens, unused_variables, clippy::all)]
        impl<'a> #name<'a> {
            /// A mutable view of the header at the front of `bytes`, with its payload.
            ///
            /// # Errors
            /// As that of the view that only reads.
            #[inline]
            pub fn parse(bytes: &'a mut [u8]) -> ::core::result::Result<Self, #wire::ParseError> {
                #parse
            }

            /// The same, read only.
            #[inline]
            pub fn view(&self) -> #view<'_> {
                #view { fixed: self.fixed, #(#tails: self.#tails,)* payload: self.payload }
            }

            /// What follows the header.
            #[inline]
            pub fn payload_mut(&mut self) -> &mut [u8] {
                self.payload
            }

            /// What follows the header, for as long as the buffer is borrowed.
            #[inline]
            pub fn into_payload(self) -> &'a mut [u8] {
                self.payload
            }

            #(#setters)*
            #checksum
        }
    }
}

fn setter(field: &Field) -> Option<TokenStream> {
    let ident = &field.ident;
    if field.is_tail() {
        let (name, docs) = (
            format_ident!("{}_mut", ident.unraw()),
            format!("The bytes of `{}`.", ident.unraw()),
        );
        return Some(quote! {
            #[doc = #docs]
            #[inline]
            pub fn #name(&mut self) -> &mut [u8] {
                self.#ident
            }
        });
    }
    if matches!(field.role, Role::Constant(_)) {
        return None;
    }
    let (name, ty) = (format_ident!("set_{}", ident.unraw()), &field.ty);
    let low = match field.kind {
        Kind::Uint(bits) if bits > field.bits => {
            format!(" Only the low {} bits count.", field.bits)
        }
        _ => String::new(),
    };
    let docs = format!("Sets `{}`.{low}", ident.unraw());
    let write = access::write(field, &quote!(self.fixed), &quote!(value));
    Some(quote! {
        #[doc = #docs]
        #[inline]
        pub fn #name(&mut self, value: #ty) {
            #write
        }
    })
}

fn fill_checksum(model: &Model) -> Option<TokenStream> {
    let (field, _) = model.checksum()?;
    let right = right_checksum(model, &quote!(view))?;
    let pseudo = pseudo(model);
    let write = access::write(field, &quote!(self.fixed), &quote!(right));
    Some(quote! {
        /// Computes the checksum and stores it: what comes last when a packet is written.
        pub fn fill_checksum(&mut self, #pseudo) {
            let view = self.view();
            let right = #right;
            #write
        }
    })
}
