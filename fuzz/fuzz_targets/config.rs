//! Any text: refused or read, never a panic; what is accepted survives formatting.
#![no_main]

use evenkeel_config::{Report, format, plan, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let formatted = format(text);
    match read(text) {
        Ok(snapshot) => {
            let formatted = formatted.expect("what is read can be formatted");
            let again = read(&formatted).expect("formatting keeps the meaning");
            assert_eq!(again, snapshot);
            assert!(plan(&snapshot, &again).steps.is_empty());
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            let _ = Report { file: "fuzz", text, problems: &problems }.to_string();
        }
    }
    if let Ok(formatted) = format(text) {
        assert_eq!(format(&formatted).as_ref(), Ok(&formatted));
    }
});
