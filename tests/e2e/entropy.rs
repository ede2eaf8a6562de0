//! Where random numbers come from.

use bolt_client::local::binary;

#[test]
fn programs_collect_no_jitter_of_the_cpu() {
    for name in ["bolt", "bolt-agent"] {
        let program = std::fs::read(binary(name).unwrap()).unwrap();
        let symbol = |wanted: &str| program.split(|byte| *byte == 0).any(|text| text.ends_with(wanted.as_bytes()));
        // A program without symbols would pass the check below.
        assert!(symbol("CRYPTO_sysrand"), "{name} has no symbols");
        assert!(!symbol("jent_read_entropy"), "{name}: AWS_LC_SYS_NO_JITTER_ENTROPY was not set for its build");
    }
}
