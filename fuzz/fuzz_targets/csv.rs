#![no_main]

#[path = "../../cli/rbuild/src/spec.rs"]
mod spec;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = spec::fields(&String::from_utf8_lossy(data));
});
