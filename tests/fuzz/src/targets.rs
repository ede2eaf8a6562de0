//! List of all targets.

use crate::Target;

macro_rules! targets {
    ($($name:ident $max_len:literal;)*) => {
        $(mod $name;)*

        /// Every target, by name.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name), run: $name::run, seeds: $name::seeds, max_len: $max_len,
        },)*];
    };
}

targets! {
    agent_toml 16384;
    answers 4096;
    archive 16384;
    audit_log 8192;
    channel 4096;
    crls 4096;
    exec_records 4096;
    grants 16384;
    http_bodies 4096;
    http_request 4096;
    import_puppet 8192;
    import_rundeck 8192;
    import_ssm 8192;
    import_stackstorm 8192;
    import_wheel 8192;
    inventory 4096;
    launcher_messages 4096;
    launcher_stream 8192;
    metadata 8192;
    names 512;
    output_log 8192;
    pack_files 8192;
    parameters 4096;
    requirements 4096;
    rest_messages 8192;
    run_record 8192;
    signing_request 2048;
    site_config 4096;
    stored_records 8192;
    terminal 4096;
    where_expression 1024;
    x509 4096;
}
