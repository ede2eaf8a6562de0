//! End to end: the real binaries, over real TLS, with real packs from a real repository.
//!
//! Each module is one story; each test in it is named after what it shows, so that the runner's output reads as a list of promises.
#![expect(clippy::unwrap_used, reason = "a test that fails should fail where it stands")]

mod calls;

mod ansible;
mod architecture;
mod at_rest;
mod audit;
mod authoring;
mod callers_refused;
mod channels;
mod check_config;
mod command_line;
mod configuration_refused;
mod demo;
mod entropy;
mod environment;
mod executions;
mod executions_refused;
mod facts;
mod fan_out;
mod grants;
mod growth;
mod hangs;
mod history;
mod imported;
mod instance_shapes;
mod inventory;
mod kms;
mod leftovers;
mod live_view;
mod local_access;
mod log_injection;
mod monitoring;
mod one_request;
mod operations;
mod output;
mod packs_refused;
mod papers;
mod pki;
mod polls;
mod publish_large;
mod push;
mod python;
mod recovery;
mod renewal;
mod requests_refused;
mod restarts;
mod resume;
mod resume_by_another;
mod revocation;
mod run_reports;
mod run_store;
mod s3;
mod s3_faults;
mod s3_moto;
mod secrets;
mod secrets_damaged;
mod signature_ends;
mod site_config;
mod texts;
mod under_attack;
mod usage;
mod venvs;
