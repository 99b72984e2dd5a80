//! Reading and writing single fields, as expressions without a branch: every index is a literal within an array.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use crate::model::{Field, Kind};

fn bytes(field: &Field) -> impl DoubleEndedIterator<Item = Literal> {
    field.bytes().map(Literal::usize_unsuffixed)
}

/// Bits of the last byte that are not the field's.
fn below(field: &Field) -> u32 {
    field.bytes().end as u32 * 8 - field.offset - field.bits
}

/// The type to compute in: nine bytes do not fit in an `u64`.
fn wide(field: &Field) -> TokenStream {
    if field.bytes().len() > 8 {
        quote!(u128)
    } else {
        quote!(u64)
    }
}

/// The value of a field of fixed length in the array `from`, of the field's own type.
pub(super) fn read(field: &Field, from: &TokenStream) -> TokenStream {
    let (ty, at) = (&field.ty, bytes(field));
    match field.kind {
        Kind::Uint(size) if field.is_whole() && field.bits == size => {
            if field.little {
                quote!(<#ty>::from_le_bytes([#(#from[#at]),*]))
            } else {
                quote!(<#ty>::from_be_bytes([#(#from[#at]),*]))
            }
        }
        Kind::Uint(_) => {
            let value = gather(field, from);
            quote!((#value) as #ty)
        }
        Kind::Bool => {
            let value = gather(field, from);
            quote!((#value) != 0)
        }
        Kind::Mac => {
            let wire = &field.ty;
            quote!(#wire([#(#from[#at]),*]))
        }
        Kind::Ipv4 | Kind::Ipv6 => quote!(<#ty>::from([#(#from[#at]),*])),
        Kind::Bytes | Kind::Tail => quote!([#(#from[#at]),*]),
    }
}

/// The value of a number, as an `u64`.
pub(super) fn read_u64(field: &Field, from: &TokenStream) -> TokenStream {
    let value = read(field, from);
    quote!(u64::from(#value))
}

/// The bits of a number, from all bytes that have some.
fn gather(field: &Field, from: &TokenStream) -> TokenStream {
    let wide = wide(field);
    let len = field.bytes().len();
    let terms = bytes(field).enumerate().map(|(n, at)| {
        let shift = Literal::usize_unsuffixed(8 * if field.little { n } else { len - 1 - n });
        quote!(((#from[#at] as #wide) << #shift))
    });
    let (below, mask) = (below(field), field.max());
    if field.is_whole() {
        quote!(#(#terms)|*)
    } else {
        quote!(((#(#terms)|*) >> #below) & (#mask as #wide))
    }
}

/// Writes `value`, of the field's own type, to the array `to`. Of a number the low bits count.
pub(super) fn write(field: &Field, to: &TokenStream, value: &TokenStream) -> TokenStream {
    let at: Vec<_> = bytes(field).collect();
    match field.kind {
        Kind::Uint(size) if field.is_whole() && field.bits == size => {
            if field.little {
                quote!([#(#to[#at]),*] = (#value).to_le_bytes();)
            } else {
                quote!([#(#to[#at]),*] = (#value).to_be_bytes();)
            }
        }
        Kind::Uint(_) | Kind::Bool => scatter(field, to, value),
        Kind::Mac => quote!([#(#to[#at]),*] = (#value).0;),
        Kind::Ipv4 | Kind::Ipv6 => quote!([#(#to[#at]),*] = (#value).octets();),
        Kind::Bytes | Kind::Tail => quote!([#(#to[#at]),*] = #value;),
    }
}

/// Puts the bits of a number into all bytes that have some, and leaves the other bits of these bytes.
fn scatter(field: &Field, to: &TokenStream, value: &TokenStream) -> TokenStream {
    let wide = wide(field);
    let len = field.bytes().len();
    let (below, mask) = (below(field), u128::from(field.max()) << below(field));
    let bytes = bytes(field).enumerate().map(|(n, at)| {
        let shift = 8 * if field.little { n } else { len - 1 - n };
        let own = (mask >> shift) as u8;
        let others = !own;
        let shift = Literal::usize_unsuffixed(shift);
        if own == 0xff {
            quote!(#to[#at] = (value >> #shift) as u8;)
        } else {
            quote!(#to[#at] = #to[#at] & #others | (value >> #shift) as u8 & #own;)
        }
    });
    quote! {
        {
            let value = #wide::from(#value) << #below;
            #(#bytes)*
        }
    }
}
