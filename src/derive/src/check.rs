//! Lays the fields out, and holds them to the rules that concern several of them.

use syn::{Error, Result};

use crate::model::{Field, Kind, Measure, Model, Role};
use crate::read::collect;

/// Methods that the view has of its own.
const TAKEN: [&str; 5] = ["parse", "payload", "key", "checksum_ok", "header_len"];

/// Gives each field its place. Every rule that is broken is an error that names the field and says what would help.
pub(crate) fn lay_out(model: &mut Model) -> Result<()> {
    let mut errors = None;
    let mut at = 0;
    let mut tail: Option<String> = None;
    for field in &mut model.fields {
        field.offset = at;
        at += field.bits;
        let mut wrong = |what: String| {
            collect(
                &mut errors,
                Error::new(field.ident.span(), format!("`{}`: {what}", field.ident)),
            );
        };
        if let (Some(tail), false) = (&tail, field.is_tail()) {
            wrong(format!(
                "stands after `{tail}`, whose length varies; move it before that"
            ));
        }
        if field.is_tail() {
            tail = Some(field.ident.to_string());
        }
        alone(field, &mut wrong);
    }
    if !model.fixed().any(|_| true) {
        return Err(Error::new(
            model.ident.span(),
            "a header has at least one field of fixed length",
        ));
    }
    if let (Some(last), false) = (model.fixed().last(), at.is_multiple_of(8)) {
        let missing = at.next_multiple_of(8) - at;
        let what = format!(
            "`{}`: the fixed part ends within a byte, after {at} bits; add `#[field(bits = {missing})] reserved: u8`",
            last.ident
        );
        collect(&mut errors, Error::new(last.span(), what));
    }
    model.fixed_len = at as usize / 8;
    together(model, &mut errors);
    errors.map_or(Ok(()), Err)
}

/// Rules for a field by itself, which knows its place.
fn alone(field: &Field, wrong: &mut impl FnMut(String)) {
    if TAKEN.contains(&field.ident.to_string().as_str()) {
        wrong(format!(
            "the view has a method of this name; rename it, for example to `{0}_field`, and say `name = \"{0}\"` for scripts",
            field.ident
        ));
    }
    let whole = field.is_whole();
    if !field.is_tail() && !field.offset.is_multiple_of(8) && !field.is_number() {
        let missing = field.offset.next_multiple_of(8) - field.offset;
        wrong(format!(
            "begins within a byte, at bit {}; add `#[field(bits = {missing})] reserved: u8` before it",
            field.offset
        ));
    }
    if field.little && (!matches!(field.kind, Kind::Uint(_)) || !whole || field.bits == 8) {
        wrong("little is for numbers of two whole bytes or more; take it out, or let it begin and end at a byte".into());
    }
    let number = matches!(field.kind, Kind::Uint(_));
    if !number
        && (!field.values.is_empty()
            || field.hex
            || field.selects.is_some()
            || field.role != Role::Plain)
    {
        wrong(
            "constant, len, checksum, values, flags, hex and selects are for u8, u16, u32 and u64"
                .into(),
        );
    }
    if !field.is_number() && field.default != 0 {
        wrong("a default is for numbers".into());
    }
    if number || field.kind == Kind::Bool {
        let most = field.max();
        let named = field.values.iter().map(|(_, value)| *value);
        for value in named.chain([field.default]).filter(|value| *value > most) {
            wrong(format!(
                "{value} does not fit in {} bits; {most} is the most",
                field.bits
            ));
        }
    }
    if field.key && (field.is_tail() || field.role != Role::Plain) {
        wrong("the key of a flow is made of fields of fixed length that are no constant, length or checksum".into());
    }
    if let Role::Checksum(checksum) = field.role {
        let (name, bits) = if checksum.crc.is_some() {
            ("a CRC32", 32)
        } else {
            ("an Internet checksum", 16)
        };
        if field.bits != bits {
            wrong(format!("{name} has {bits} bits; make it a u{bits}"));
        } else if !whole {
            wrong("a checksum begins at a byte; move it, or fill up the bits before it".into());
        } else if checksum.crc.is_none() && (!field.offset.is_multiple_of(16) || field.little) {
            wrong("an Internet checksum is in network byte order and an even number of bytes from the front; move it".into());
        }
        if checksum.crc.is_some() && checksum.pseudo.is_some() {
            wrong("a pseudo header is for Internet checksums; take pseudo out".into());
        }
    }
}

/// Rules for fields that belong together.
fn together(model: &Model, errors: &mut Option<Error>) {
    let mut wrong = |field: &Field, what: String| {
        collect(
            errors,
            Error::new(field.span(), format!("`{}`: {what}", field.ident)),
        );
    };
    let names: Vec<String> = model.tails().map(|tail| tail.name.clone()).collect();
    for (n, field) in model.fields.iter().enumerate() {
        let before = &model.fields[..n];
        if let Some(other) = before.iter().find(|other| other.name == field.name) {
            wrong(
                field,
                format!(
                    "`{}` has the same name in scripts; say another with `name = \"…\"`",
                    other.ident
                ),
            );
        }
        match &field.role {
            Role::Length { of, .. } => {
                let same =
                    |other: &&Field| matches!(&other.role, Role::Length { of: it, .. } if it == of);
                if let Some(other) = before.iter().find(same) {
                    wrong(
                        field,
                        format!(
                            "`{}` says the same length already; make one of them plain",
                            other.ident
                        ),
                    );
                }
                if let Measure::Tail(tail) = of
                    && !names.contains(tail)
                {
                    let there: String = names.iter().map(|name| format!(", \"{name}\"")).collect();
                    wrong(
                        field,
                        format!(
                            "len = \"{tail}\" is the length of nothing; there are \"header\", \"payload\", \"all\"{there}"
                        ),
                    );
                }
            }
            Role::Checksum(_) => {
                if let Some(other) = before
                    .iter()
                    .find(|other| matches!(other.role, Role::Checksum(_)))
                {
                    wrong(
                        field,
                        format!(
                            "`{}` is a checksum already, and a header has one; make one of them plain",
                            other.ident
                        ),
                    );
                }
            }
            Role::Plain | Role::Constant(_) => {}
        }
    }
    let open: Vec<&Field> = model
        .tails()
        .filter(|tail| model.length_of(&Measure::Tail(tail.name.clone())).is_none())
        .collect();
    let by_header = model.length_of(&Measure::Header).is_some();
    for (n, tail) in open.iter().enumerate() {
        if !by_header || n > 0 {
            let name = &tail.name;
            wrong(
                tail,
                format!(
                    "nothing says how long it is; put `#[field(len = \"{name}\")]` on a number before it. (What follows the header \
                     needs no field: it is the view's `payload()`)"
                ),
            );
        } else if model
            .tails()
            .last()
            .is_some_and(|last| last.ident != tail.ident)
        {
            wrong(
                tail,
                "its length is what the header's leaves, and so it comes last; move it to the end"
                    .into(),
            );
        }
    }
    if let Some((field, unit)) = model.length_of(&Measure::Header)
        && open.is_empty()
        && !model.fixed_len.is_multiple_of(unit as usize)
    {
        let fixed_len = model.fixed_len;
        wrong(
            field,
            format!(
                "a header of {fixed_len} bytes is not whole pieces of {unit}; fill it up, or say unit = 1"
            ),
        );
    }
    if model.tails().any(|_| true) && model.lifetime.is_none() {
        // rustc says the rest: the type names a lifetime that is not there.
        let field = &model.ident;
        let what = format!(
            "`{field}`: bytes of varying length are borrowed; write `struct {field}<'a>` and `&'a [u8]`"
        );
        collect(errors, Error::new(field.span(), what));
    }
}
