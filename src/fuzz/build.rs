//! Writes the list of targets: every file in `fuzz_targets` has a function `fuzz`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap()).join("fuzz_targets");
    println!("cargo:rerun-if-changed={}", dir.display());
    let files = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let (mut modules, mut list) = (String::new(), String::new());
    for name in &names {
        let path = dir.join(format!("{name}.rs"));
        writeln!(modules, "#[path = {path:?}]\nmod {name};").unwrap();
        writeln!(list, "    ({name:?}, {name}::fuzz),").unwrap();
    }
    let text = format!("{modules}\npub(crate) const ALL: &[(&str, fn(&[u8]))] = &[\n{list}];\n");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap()).join("targets.rs");
    fs::write(out, text).unwrap();
}
