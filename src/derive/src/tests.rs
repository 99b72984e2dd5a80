//! What the compiler says of mistakes.

use crate::expand;

/// The messages for a header with these fields (or a whole struct).
fn errors(text: &str) -> Vec<String> {
    let text = if text.contains("struct") || text.contains("enum") {
        text.to_owned()
    } else {
        format!("struct Probe<'a> {{ {text} }}")
    };
    let input = syn::parse_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    match expand(&input) {
        Ok(_) => Vec::new(),
        Err(error) => error.into_iter().map(|error| error.to_string()).collect(),
    }
}

#[test]
fn what_is_right_is_taken() {
    for right in [
        "a: u8",
        "#[field(bits = 3)] a: u8, b: bool, #[field(bits = 12)] c: u16",
        "#[field(bits = 1)] a: u8, #[field(bits = 64)] b: u64, #[field(bits = 7)] c: u8",
        "#[field(bits = 24, little)] a: u32, #[field(values(type = 1, r#fn = 2))] r#type: u8",
        "#[field(len = \"header\", unit = 4)] n: u8, #[field(len = \"x\")] m: u8, x: &'a [u8], y: &'a [u8]",
        "#[field(checksum = \"internet\", pseudo = 17)] a: u16, b: std::net::Ipv6Addr, c: [u8; 3]",
    ] {
        assert_eq!(errors(right), Vec::<String>::new(), "{right}");
    }
}

#[test]
fn mistakes_name_the_field_and_a_remedy() {
    let wrong = [
        (
            "struct Probe;",
            "Header describes a struct with named fields",
        ),
        (
            "struct Probe(u8);",
            "Header describes a struct with named fields",
        ),
        (
            "enum Probe { A }",
            "Header describes a struct with named fields",
        ),
        ("struct Probe<T> { a: T }", "no parameters but one lifetime"),
        ("struct Probe {}", "at least one field of fixed length"),
        (
            "struct Probe { #[field(len = \"x\")] n: u8, x: &[u8] }",
            "write `struct Probe<'a>` and `&'a [u8]`",
        ),
        (
            "#[header(colour = 1)] struct Probe { a: u8 }",
            "`#[header(…)]` knows name, ethertype",
        ),
        (
            "#[header(udp_port = 65536)] struct Probe { a: u8 }",
            "`udp_port`: 65536 is too large, 65535 is the most",
        ),
        (
            "#[header(name = \"A b\")] struct Probe { a: u8 }",
            "\"A b\" cannot be a name",
        ),
        (
            "#[field(bits = 4)] a: u8",
            "`a`: the fixed part ends within a byte, after 4 bits; add `#[field(bits = 4)] reserved: u8`",
        ),
        (
            "#[field(bits = 12)] a: u8",
            "`a`: 12 bits do not fit in a u8; make it a u16",
        ),
        (
            "#[field(bits = 65)] a: u64",
            "`a`: 65 bits are too many, 64 is the most; make it [u8; 9]",
        ),
        (
            "#[field(bits = 0)] a: u8",
            "`a`: a field has at least one bit",
        ),
        ("#[field(bits = 4)] a: bool", "`a`: bits = 4 is for u8"),
        ("a: i32", "`a`: numbers on the wire have a size and no sign"),
        (
            "a: u128",
            "`a`: a number has 64 bits at most; make it [u8; 16]",
        ),
        (
            "a: String",
            "`a`: a field is u8, u16, u32, u64, bool, [u8; 4]",
        ),
        ("a: [u8; LEN]", "`a`: an array's length is a plain number"),
        ("a: [u8; 0]", "`a`: an array has 1 to 1024 bytes"),
        (
            "#[field(colour)] a: u8",
            "`a`: `#[field(…)]` knows bits, little",
        ),
        (
            "#[field(bits = 4)] a: u8, b: [u8; 2], #[field(bits = 4)] c: u8",
            "`b`: begins within a byte, at bit 4; add `#[field(bits = 4)] reserved: u8` before it",
        ),
        (
            "#[field(little)] a: u8",
            "`a`: little is for numbers of two whole bytes or more",
        ),
        (
            "#[field(bits = 12, little)] a: u16, #[field(bits = 4)] b: u8",
            "`a`: little is for numbers",
        ),
        (
            "#[field(bits = 4, constant = 16)] a: u8, #[field(bits = 4)] b: u8",
            "`a`: 16 does not fit in 4 bits; 15 is the most",
        ),
        (
            "#[field(values(big = 256))] a: u8",
            "`a`: 256 does not fit in 8 bits",
        ),
        (
            "#[field(constant = 1, len = \"all\")] a: u8",
            "`a`: is one of constant, len and checksum",
        ),
        (
            "#[field(constant = 1)] a: [u8; 2]",
            "`a`: constant, len, checksum, values, flags, hex and selects are for u8",
        ),
        (
            "#[field(key)] #[field(constant = 1)] a: u8",
            "`a`: the key of a flow is made of fields of fixed length",
        ),
        ("#[field(unit = 4)] a: u8", "`a`: unit belongs to a length"),
        (
            "#[field(len = \"all\", unit = 4)] a: u8",
            "`a`: a length with a unit is that of the header or of a field",
        ),
        (
            "#[field(len = \"header\", unit = 0)] a: u8",
            "`a`: a unit of 0 bytes is none",
        ),
        (
            "#[field(len = \"header\", unit = 4)] a: u8",
            "`a`: a header of 1 bytes is not whole pieces of 4",
        ),
        (
            "#[field(len = \"tgas\")] a: u8, #[field(len = \"tags\")] b: u8, tags: &'a [u8]",
            "`a`: len = \"tgas\" is the length of nothing; there are \"header\", \"payload\", \"all\", \"tags\"",
        ),
        (
            "#[field(len = \"all\")] a: u8, #[field(len = \"all\")] b: u8",
            "`b`: `a` says the same length already",
        ),
        (
            "a: u8, tags: &'a [u8]",
            "`tags`: nothing says how long it is; put `#[field(len = \"tags\")]` on a number before it",
        ),
        (
            "#[field(len = \"tags\")] a: u8, tags: &'a [u8], b: u8",
            "`b`: stands after `tags`, whose length varies",
        ),
        (
            "#[field(len = \"header\")] a: u8, #[field(len = \"y\")] b: u8, x: &'a [u8], y: &'a [u8]",
            "`x`: its length is what the header's leaves, and so it comes last",
        ),
        (
            "#[field(checksum = \"md5\")] a: u16",
            "`a`: there is no checksum \"md5\"; there are \"internet\", \"crc32\" and \"crc32c\"",
        ),
        (
            "#[field(checksum = \"internet\")] a: u32",
            "`a`: an Internet checksum has 16 bits; make it a u16",
        ),
        (
            "#[field(checksum = \"crc32\")] a: u16",
            "`a`: a CRC32 has 32 bits; make it a u32",
        ),
        (
            "b: u8, #[field(checksum = \"internet\")] a: u16",
            "`a`: an Internet checksum is in network byte order and an even number",
        ),
        (
            "#[field(checksum = \"crc32\", pseudo = 17)] a: u32",
            "`a`: a pseudo header is for Internet checksums",
        ),
        (
            "#[field(covers = \"header\")] a: u16",
            "`a`: covers and pseudo belong to a checksum",
        ),
        (
            "#[field(checksum = \"internet\")] a: u16, #[field(checksum = \"internet\")] b: u16",
            "`b`: `a` is a checksum already",
        ),
        (
            "payload: u8",
            "`payload`: the view has a method of this name; rename it, for example to `payload_field`",
        ),
        (
            "a: u8, #[field(name = \"a\")] b: u8",
            "`b`: `a` has the same name in scripts",
        ),
        (
            "#[field(name = \"A\")] a: u8",
            "\"A\" cannot be a name in packet expressions",
        ),
    ];
    for (text, what) in wrong {
        let errors = errors(text);
        assert!(
            errors.iter().any(|error| error.contains(what)),
            "{text}\n{errors:#?}\nhave no: {what}"
        );
    }
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let errors = errors("a: i32, #[field(bits = 9)] b: u8, c: String");
    assert_eq!(errors.len(), 3, "{errors:#?}");
}
