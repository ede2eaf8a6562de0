//! Simulated fleet: the REST interface of up to 10,000 agents over real mutual TLS, in one process on loopback.
//!
//! ```text
//!  client ──TCP──▶ one listening socket ──local address, 127.x.y.z──▶ instance ──fault, latency──▶ answer
//!                                                                       └─▶ ledger: connections, requests, starts
//! ```
//!
//! Each instance has its own address of 127.0.0.0/8 and its own certificate, issued by the client library's authority on
//! first use. What goes wrong on which instance ([`Fault`]) and how long its executions run ([`Latency`]) are decided by
//! a seed alone. The ledger is the evidence of the server: whatever a client reports, it says how often each instance was
//! contacted and what was started there.
//!
//! Must never: listen on another interface than loopback, or start two executions for one idempotency key.

pub mod cost;
mod executions;
mod fault;
pub mod handshakes;
mod instance;
mod ledger;
mod rest;
mod serve;
mod tls;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bolt_client::local::OPERATOR;
use bolt_client::pki::{Authority, Validity};
use packs_schema::base::name::Principal;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};

use crate::Bolt;
pub use fault::Fault;
use instance::Instance;
pub use ledger::{Ledger, Totals};
use tls::Tls;

/// Action that every instance has: a diagnostic without parameters.
pub const ACTION: &str = "sim.report";
/// Maximum number of connections that wait to be accepted; the kernel's own maximum may be lower.
const BACKLOG: u32 = 4096;
/// Worker threads of a fleet.
const THREADS: usize = 2;

/// Distribution of the run times of executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Median; times are spread evenly from half of it to one and a half.
    pub median_ms: u64,
    /// Percentage of executions that take `tail_ms` instead.
    pub tail_percent: u64,
    /// Run time of these.
    pub tail_ms: u64,
}

/// Size and behaviour of a fleet. Equal setups behave equally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Number of instances.
    pub instances: u32,
    /// Percentage of them with a fault; each fault of [`Fault::ALL`] is equally frequent.
    pub faulty_percent: u32,
    /// True for [`Fault::PATIENT`] as well.
    pub patient: bool,
    /// True if each instance prints something else: its id, a time and a number.
    pub distinct: bool,
    /// Run times.
    pub latency: Latency,
    /// Seed of faults and run times.
    pub seed: u64,
}

impl Setup {
    /// Returns a fleet without faults whose executions take no time.
    pub fn healthy(instances: u32) -> Setup {
        let latency = Latency { median_ms: 0, tail_percent: 0, tail_ms: 0 };
        Setup { instances, faulty_percent: 0, patient: false, distinct: false, latency, seed: 1 }
    }
}

/// A running fleet; stops when dropped.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
    directory: PathBuf,
    /// Bound and not listening, so that connections to its port are refused.
    _dead: TcpSocket,
}

/// State that all connections share.
#[derive(Debug)]
struct Shared {
    setup: Setup,
    instances: Vec<Instance>,
    tls: Tls,
}

impl Fleet {
    /// Starts a fleet. Writes certificates, `client.toml` and the inventory into `directory`.
    pub fn start(setup: Setup, directory: &Path) -> Fleet {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("fleet").enable_all().build().expect("a runtime");
        let inside = runtime.enter();
        let (listener, dead) = (socket(), socket());
        let ports = [&listener, &dead].map(|socket| socket.local_addr().expect("it is bound").port());
        let authority = Authority::create("Simulated fleet").expect("an authority can be made");
        write_client(directory, &authority);
        let faults = fault::assign(&setup);
        let instances = (0..).zip(faults).map(|(index, fault)| Instance::new(index, fault, ports));
        let shared = Arc::new(Shared { setup, instances: instances.collect(), tls: Tls::new(authority) });
        write_inventory(directory, &shared.instances);
        let listener = listener.listen(BACKLOG).expect("it can listen");
        runtime.spawn(accept(listener, shared.clone()));
        drop(inside);
        Fleet { shared, runtime: Some(runtime), directory: directory.to_owned(), _dead: dead }
    }

    /// Makes the certificates of all instances now, so that no handshake waits for one.
    pub fn make_certificates(&self) {
        let share = self.shared.instances.len().div_ceil(THREADS).max(1);
        std::thread::scope(|scope| {
            for some in self.shared.instances.chunks(share) {
                scope.spawn(|| some.iter().for_each(|instance| drop(self.shared.tls.certificate(instance))));
            }
        });
    }

    /// Returns the `bolt` command with this fleet as its inventory.
    pub fn bolt(&self) -> Bolt {
        Bolt::new(&self.client_config())
    }

    /// Returns the path of `client.toml`.
    pub fn client_config(&self) -> PathBuf {
        self.directory.join("client.toml")
    }

    /// Returns what the instances have seen so far.
    pub fn ledger(&self) -> Ledger {
        Ledger::of(&self.shared.instances)
    }

    /// Returns the fault of each instance, by id.
    pub fn faults(&self) -> Vec<(String, Fault)> {
        self.shared.instances.iter().map(|instance| (instance.id.to_string(), instance.fault)).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Binds a socket to a free port of all addresses of the loopback interface.
fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    // 127.0.0.0/8 cannot be bound as a whole. All addresses can, and the device keeps other interfaces out.
    socket.bind_device(Some(b"lo")).expect("it can be bound to the loopback interface");
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into()).expect("a free port");
    socket
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => drop(tokio::spawn(serve::serve(shared.clone(), tcp))),
            // Out of descriptors: connections wait in the backlog until others have ended.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
}

fn write_client(directory: &Path, authority: &Authority) {
    let principal = Principal::new(OPERATOR).expect("a valid principal");
    let operator = authority.issue_client(&principal, Validity::days(30)).expect("a certificate can be issued");
    operator.write(directory, "operator").expect("the certificate can be written");
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("a file can be written");
    write("ca.pem", authority.cert_pem());
    let settings = "certificate = \"operator.pem\"\nkey = \"operator.key\"\nca = \"ca.pem\"\n";
    write("client.toml", &format!("{settings}inventory = \"inventory.json\"\n"));
}

fn write_inventory(directory: &Path, instances: &[Instance]) {
    let entries: Vec<serde_json::Value> = instances.iter().map(Instance::inventory_entry).collect();
    let text = json!({ "instances": entries }).to_string();
    std::fs::write(directory.join("inventory.json"), text).expect("the inventory can be written");
}
