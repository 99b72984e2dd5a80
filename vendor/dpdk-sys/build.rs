//! Finds the system's DPDK, compiles the shim against its headers and generates the bindings to it.

fn main() {
    #[cfg(feature = "dpdk")]
    system::build();
}

#[cfg(feature = "dpdk")]
mod system {
    use std::path::PathBuf;
    use std::process::{Command, exit};
    use std::{env, fs};

    const OLDEST: &str = "22.11";

    pub(crate) fn build() {
        println!("cargo::rerun-if-changed=shim");
        for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "LIBCLANG_PATH"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        let cflags = dpdk(&["--cflags"]);
        for file in ["shim.h", "eal.c", "end.c", "flow.c", "pool.c", "port.c"] {
            println!("cargo::rerun-if-changed=shim/{file}");
        }
        compile(&cflags);
        bind(&cflags);
        link();
    }

    /// What pkg-config says, in words. `-march` is the distribution's: what its headers need at least.
    fn dpdk(what: &[&str]) -> Vec<String> {
        let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
        let ask = |arguments: &[&str]| {
            let output = Command::new(&tool).args(arguments).output();
            output
                .ok()
                .filter(|o| o.status.success())
                .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        };
        if ask(&["--version"]).is_none() {
            refuse("there is no pkg-config", "pkg-config");
        }
        let Some(version) = ask(&["--modversion", "libdpdk"]) else {
            refuse(
                "DPDK's headers are not installed (pkg-config knows no libdpdk)",
                "libdpdk-dev",
            );
        };
        if ask(&[&format!("--atleast-version={OLDEST}"), "libdpdk"]).is_none() {
            refuse(
                &format!(
                    "DPDK {version} is older than {OLDEST} (where the distribution has no newer one, \
                     build it from dpdk.org and set PKG_CONFIG_PATH)"
                ),
                "libdpdk-dev",
            );
        }
        let words = ask(&[what, &["libdpdk"]].concat()).unwrap_or_default();
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn compile(cflags: &[String]) {
        let mut build = cc::Build::new();
        build
            .files(
                ["eal.c", "end.c", "flow.c", "pool.c", "port.c"].map(|file| format!("shim/{file}")),
            )
            .std("gnu11")
            .define("ALLOW_EXPERIMENTAL_API", None)
            // DPDK's inline functions are not free of what these point out.
            .flag_if_supported("-Wno-unused-parameter")
            .flag_if_supported("-Wno-deprecated-declarations");
        // Even in an unoptimised build: these functions are the packet's path.
        build.opt_level(3);
        for flag in cflags {
            build.flag(flag);
        }
        build.compile("linecard_dpdk_shim");
    }

    fn bind(cflags: &[String]) {
        // The shim's header needs none of DPDK's, so there is nothing packed or version-dependent in it.
        let builder = bindgen::Builder::default()
            .header("shim/shim.h")
            .clang_args(cflags.iter().filter(|f| f.starts_with("-I")))
            .allowlist_function("lc_.*")
            .allowlist_type("lc_.*")
            .allowlist_var("LC_.*")
            .opaque_type("rte_mempool")
            .opaque_type("rte_flow")
            .derive_default(true)
            .use_core();
        // Without libclang it panics; the message below says what to do about that.
        std::panic::set_hook(Box::new(|_| ()));
        let bindings =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.generate().ok()))
                .ok()
                .flatten();
        let _ = std::panic::take_hook();
        let Some(bindings) = bindings else {
            refuse(
                "the bindings could not be generated; libclang is needed for that",
                "libclang-dev",
            );
        };
        let file = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
        if let Err(error) = fs::write(&file, bindings.to_string()) {
            refuse(&format!("{}: {error}", file.display()), "");
        }
    }

    /// Every library that pkg-config names; the linker keeps those that the shim refers to. Poll-mode
    /// drivers are plug-ins that EAL loads; each names the libraries that it needs itself.
    fn link() {
        for word in dpdk(&["--libs"]) {
            if let Some(dir) = word.strip_prefix("-L") {
                println!("cargo::rustc-link-search=native={dir}");
            } else if let Some(name) = word.strip_prefix("-l")
                && name.starts_with("rte_")
            {
                println!("cargo::rustc-link-lib=dylib={name}");
            }
        }
    }

    fn refuse(what: &str, package: &str) -> ! {
        let mut packages = vec![package, "libdpdk-dev", "libclang-dev"];
        packages.retain(|name| !name.is_empty());
        packages.sort_unstable();
        packages.dedup();
        println!(
            "cargo::error={what}; Linecard's feature `dpdk` needs DPDK {OLDEST} or later: \
             scripts/setup --dpdk, or apt install {}",
            packages.join(" ")
        );
        exit(0)
    }
}
