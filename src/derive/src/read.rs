//! From the struct to the model: attributes and types.

use syn::ext::IdentExt as _;
use syn::meta::ParseNestedMeta;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprLit, Fields, GenericParam, Ident, Lit, LitInt,
    LitStr, Meta, Path, Result, Type, parenthesized,
};

use crate::model::{Checksum, Field, Kind, Measure, Model, Payload, Role};

/// Reads the struct. Rules that need several fields are checked later.
pub(crate) fn model(input: &DeriveInput) -> Result<Model> {
    let only = "Header describes a struct with named fields, one for each field of the header in the order of the wire";
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, only));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new_spanned(&input.ident, only));
    };
    let mut lifetime = None;
    for parameter in &input.generics.params {
        match parameter {
            GenericParam::Lifetime(it) if lifetime.is_none() => {
                lifetime = Some(it.lifetime.clone())
            }
            other => {
                let what =
                    "a header has no parameters but one lifetime, for bytes of varying length";
                return Err(Error::new_spanned(other, what));
            }
        }
    }
    let mut model = Model {
        ident: input.ident.clone(),
        vis: input.vis.clone(),
        lifetime,
        wire: syn::parse_quote!(::linecard::wire),
        name: snake_case(&input.ident.unraw().to_string()),
        docs: docs(&input.attrs),
        under: Vec::new(),
        payload: Payload::Selected,
        fields: Vec::new(),
        fixed_len: 0,
    };
    for attribute in input
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("header"))
    {
        attribute.parse_nested_meta(|meta| header_word(&mut model, &meta))?;
    }
    let mut errors = None;
    for field in &named.named {
        match read_field(field) {
            Ok(field) => model.fields.push(field),
            Err(error) => collect(&mut errors, error),
        }
    }
    errors.map_or(Ok(model), Err)
}

/// Adds an error to those that were found before, so that all are shown at once.
pub(crate) fn collect(errors: &mut Option<Error>, error: Error) {
    match errors {
        Some(errors) => errors.combine(error),
        None => *errors = Some(error),
    }
}

/// One word of `#[header(…)]`.
fn header_word(model: &mut Model, meta: &ParseNestedMeta<'_>) -> Result<()> {
    let numbers = [
        ("ethertype", u64::from(u16::MAX)),
        ("ip_protocol", 255),
        ("udp_port", 65535),
        ("tcp_port", 65535),
    ];
    if let Some((space, max)) = numbers
        .into_iter()
        .find(|(space, _)| meta.path.is_ident(space))
    {
        let literal: LitInt = meta.value()?.parse()?;
        let number = literal.base10_parse::<u64>()?;
        if number > max {
            return Err(Error::new_spanned(
                literal,
                format!("`{space}`: {number} is too large, {max} is the most"),
            ));
        }
        model.under.push((space.into(), number));
        return Ok(());
    }
    if meta.path.is_ident("name") {
        model.name = word(meta)?;
    } else if meta.path.is_ident("crate") {
        model.wire = meta.value()?.call(Path::parse_mod_style)?;
    } else if meta.path.is_ident("payload") {
        model.payload = Payload::Always(word(meta)?);
    } else if meta.path.is_ident("no_payload") {
        model.payload = Payload::None;
    } else if meta.path.is_ident("under") {
        let inner;
        parenthesized!(inner in meta.input);
        let space: LitStr = inner.parse()?;
        inner.parse::<syn::Token![=]>()?;
        model
            .under
            .push((space.value(), inner.parse::<LitInt>()?.base10_parse()?));
    } else {
        return Err(meta.error(
            "`#[header(…)]` knows name, ethertype, ip_protocol, udp_port, tcp_port, under(\"header.field\" = 1), payload, no_payload \
             and crate",
        ));
    }
    Ok(())
}

/// A string that can be a name in packet expressions.
fn word(meta: &ParseNestedMeta<'_>) -> Result<String> {
    let literal: LitStr = meta.value()?.parse()?;
    let value = literal.value();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if value.is_empty() || !value.chars().all(fits) || ["data", "pad"].contains(&value.as_str()) {
        let what = format!(
            "\"{value}\" cannot be a name in packet expressions: use a-z, 0-9 and _, and not data or pad"
        );
        return Err(Error::new_spanned(literal, what));
    }
    Ok(value)
}

/// What `#[field(…)]` says, as it stands there.
#[derive(Default)]
struct Words {
    name: Option<String>,
    bits: Option<u32>,
    little: bool,
    constant: Option<u64>,
    default: Option<u64>,
    hex: bool,
    key: bool,
    values: Vec<(Ident, u64)>,
    flags: bool,
    len: Option<String>,
    unit: Option<u32>,
    checksum: Option<String>,
    covers_header: bool,
    pseudo: Option<u8>,
    selects: Option<String>,
}

fn read_field(field: &syn::Field) -> Result<Field> {
    // The struct has named fields.
    let ident = field
        .ident
        .clone()
        .ok_or_else(|| Error::new_spanned(field, "a field needs a name"))?;
    let mut words = Words::default();
    for attribute in field
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("field"))
    {
        attribute.parse_nested_meta(|meta| field_word(&mut words, &meta, &ident))?;
    }
    let name = words
        .name
        .take()
        .unwrap_or_else(|| ident.unraw().to_string());
    let wrong = |what: String| Error::new(ident.span(), format!("`{ident}`: {what}"));
    let (kind, type_bits) = kind(&field.ty)
        .map_err(|what| Error::new_spanned(&field.ty, format!("`{ident}`: {what}")))?;
    let bits = match words.bits {
        None => type_bits,
        Some(0) => {
            return Err(wrong(
                "a field has at least one bit; take it out, or say how many".into(),
            ));
        }
        Some(bits) if !matches!(kind, Kind::Uint(_)) => {
            return Err(wrong(format!(
                "bits = {bits} is for u8, u16, u32 and u64; take it out"
            )));
        }
        Some(bits) if bits > type_bits => {
            let larger = [8, 16, 32, 64].into_iter().find(|size| *size >= bits);
            return Err(wrong(match larger {
                Some(larger) => {
                    format!("{bits} bits do not fit in a u{type_bits}; make it a u{larger}")
                }
                None => format!(
                    "{bits} bits are too many, 64 is the most; make it [u8; {}]",
                    bits.div_ceil(8)
                ),
            }));
        }
        Some(bits) => bits,
    };
    let role = role(&words).map_err(wrong)?;
    let field = Field {
        ty: field.ty.clone(),
        name,
        docs: docs(&field.attrs),
        kind,
        offset: 0,
        bits,
        little: words.little,
        hex: words.hex,
        flags: words.flags,
        default: words.constant.or(words.default).unwrap_or(0),
        values: words.values,
        selects: words.selects,
        key: words.key,
        ident,
        role,
    };
    Ok(field)
}

/// One word of `#[field(…)]`.
fn field_word(words: &mut Words, meta: &ParseNestedMeta<'_>, ident: &Ident) -> Result<()> {
    let number = || meta.value()?.parse::<LitInt>()?.base10_parse::<u64>();
    let text = || Ok::<String, Error>(meta.value()?.parse::<LitStr>()?.value());
    let is = |word: &str| meta.path.is_ident(word);
    if is("name") {
        words.name = Some(word(meta)?);
    } else if is("bits") {
        words.bits = Some(number()?.try_into().unwrap_or(u32::MAX));
    } else if is("little") {
        words.little = true;
    } else if is("constant") {
        words.constant = Some(number()?);
    } else if is("default") {
        words.default = Some(number()?);
    } else if is("hex") {
        words.hex = true;
    } else if is("key") {
        words.key = true;
    } else if is("values") || is("flags") {
        words.flags = is("flags");
        named(words, meta)?;
    } else if is("len") {
        words.len = Some(text()?);
    } else if is("unit") {
        words.unit = Some(number()?.try_into().unwrap_or(u32::MAX));
    } else if is("checksum") {
        words.checksum = Some(text()?);
    } else if is("covers") {
        words.covers_header = match text()?.as_str() {
            "header" => true,
            "all" => false,
            _ => return Err(meta.error(format!("`{ident}`: covers is \"header\" or \"all\""))),
        };
    } else if is("pseudo") {
        words.pseudo = Some(meta.value()?.parse::<LitInt>()?.base10_parse()?);
    } else if is("selects") {
        words.selects = Some(text()?);
    } else {
        return Err(meta.error(format!(
            "`{ident}`: `#[field(…)]` knows bits, little, constant, default, values(a = 1), flags(a = 1), hex, key, len, unit, \
             checksum, covers, pseudo, selects and name"
        )));
    }
    Ok(())
}

/// `(request = 1, reply = 2)`.
fn named(words: &mut Words, meta: &ParseNestedMeta<'_>) -> Result<()> {
    let inner;
    parenthesized!(inner in meta.input);
    while !inner.is_empty() {
        let name = inner.call(Ident::parse_any)?;
        inner.parse::<syn::Token![=]>()?;
        words
            .values
            .push((name, inner.parse::<LitInt>()?.base10_parse()?));
        if !inner.is_empty() {
            inner.parse::<syn::Token![,]>()?;
        }
    }
    Ok(())
}

fn role(words: &Words) -> std::result::Result<Role, String> {
    if words.unit.is_some() && words.len.is_none() {
        return Err("unit belongs to a length; say of what it is with len = \"…\"".into());
    }
    if (words.covers_header || words.pseudo.is_some()) && words.checksum.is_none() {
        return Err(
            "covers and pseudo belong to a checksum; say which with checksum = \"internet\"".into(),
        );
    }
    match (words.constant, &words.len, &words.checksum) {
        (None, None, None) => Ok(Role::Plain),
        (Some(value), None, None) => Ok(Role::Constant(value)),
        (None, Some(of), None) => {
            let of = match of.as_str() {
                "header" => Measure::Header,
                "payload" => Measure::Payload,
                "all" => Measure::All,
                tail => Measure::Tail(tail.into()),
            };
            let unit = words.unit.unwrap_or(1);
            if unit > 1 && matches!(of, Measure::Payload | Measure::All) {
                return Err("a length with a unit is that of the header or of a field; payloads are counted in bytes".into());
            }
            if unit == 0 || unit > 1024 {
                return Err(format!("a unit of {unit} bytes is none; it is 1 to 1024"));
            }
            Ok(Role::Length { of, unit })
        }
        (None, None, Some(algorithm)) => {
            let crc = match algorithm.as_str() {
                "internet" => None,
                "crc32" => Some("crc32"),
                "crc32c" => Some("crc32c"),
                other => {
                    return Err(format!(
                        "there is no checksum \"{other}\"; there are \"internet\", \"crc32\" and \"crc32c\""
                    ));
                }
            };
            Ok(Role::Checksum(Checksum {
                crc,
                all: !words.covers_header,
                pseudo: words.pseudo,
            }))
        }
        _ => Err("is one of constant, len and checksum; keep one of them".into()),
    }
}

/// The kind of a type and its width in bits.
fn kind(ty: &Type) -> std::result::Result<(Kind, u32), String> {
    let known = "a field is u8, u16, u32, u64, bool, [u8; 4] (with a number), MacAddr, Ipv4Addr, Ipv6Addr or, where its length varies, &'a [u8]";
    match ty {
        Type::Path(path) => {
            let last = path
                .path
                .segments
                .last()
                .map(|segment| segment.ident.to_string());
            match last.as_deref() {
                Some("u8") => Ok((Kind::Uint(8), 8)),
                Some("u16") => Ok((Kind::Uint(16), 16)),
                Some("u32") => Ok((Kind::Uint(32), 32)),
                Some("u64") => Ok((Kind::Uint(64), 64)),
                Some("bool") => Ok((Kind::Bool, 1)),
                Some("MacAddr") => Ok((Kind::Mac, 48)),
                Some("Ipv4Addr") => Ok((Kind::Ipv4, 32)),
                Some("Ipv6Addr") => Ok((Kind::Ipv6, 128)),
                Some("u128") => Err("a number has 64 bits at most; make it [u8; 16]".into()),
                Some("i8" | "i16" | "i32" | "i64" | "usize") => Err(format!(
                    "numbers on the wire have a size and no sign: {known}"
                )),
                _ => Err(known.into()),
            }
        }
        Type::Array(array) if is_u8(&array.elem) => match &array.len {
            Expr::Lit(ExprLit {
                lit: Lit::Int(len), ..
            }) => match len.base10_parse::<u32>() {
                Ok(len @ 1..=1024) => Ok((Kind::Bytes, len * 8)),
                _ => Err("an array has 1 to 1024 bytes".into()),
            },
            _ => Err("an array's length is a plain number, as the macro has to know it".into()),
        },
        Type::Reference(reference) => match &*reference.elem {
            Type::Slice(slice) if is_u8(&slice.elem) && reference.mutability.is_none() => {
                Ok((Kind::Tail, 0))
            }
            _ => Err(known.into()),
        },
        _ => Err(known.into()),
    }
}

fn is_u8(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident("u8"))
}

/// The text of `///` comments.
fn docs(attributes: &[Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        });
    lines.collect::<Vec<_>>().join("\n")
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (n, c) in name.chars().enumerate() {
        if c.is_uppercase() && n > 0 {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
