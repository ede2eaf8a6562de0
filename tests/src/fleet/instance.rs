//! A simulated instance: id, address, fault, and its records.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use packs_schema::base::name::InstanceId;
use rustls::sign::SingleCertAndKey;
use serde_json::{Value, json};

use super::executions::Executions;
use super::{Fault, Setup};
use crate::Random;

/// Address of the first instance; the others follow.
const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 1]);

/// A simulated instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) index: u32,
    pub(super) fault: Fault,
    pub(super) address: SocketAddr,
    pub(super) counts: Counts,
    pub(super) certificate: OnceLock<Arc<SingleCertAndKey>>,
    executions: Mutex<Executions>,
}

/// Counters of an instance.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: AtomicU32,
    pub(super) handshakes: AtomicU32,
    pub(super) requests: AtomicU32,
}

impl Instance {
    /// Creates an instance; `ports` are those of the listening socket and of the dead one.
    pub(super) fn new(index: u32, fault: Fault, [port, dead]: [u16; 2]) -> Instance {
        let port = if fault == Fault::Dead { dead } else { port };
        Instance {
            id: id(index),
            index,
            fault,
            address: SocketAddr::new(Ipv4Addr::from_bits(FIRST + index).into(), port),
            counts: Counts::default(),
            certificate: OnceLock::new(),
            executions: Mutex::default(),
        }
    }

    /// Returns the index of the instance with this address.
    pub(super) fn index_of(address: SocketAddr) -> Option<usize> {
        let IpAddr::V4(ip) = address.ip() else { return None };
        usize::try_from(ip.to_bits().checked_sub(FIRST)?).ok()
    }

    pub(super) fn executions(&self) -> MutexGuard<'_, Executions> {
        self.executions.lock().expect("no code panics while it holds this")
    }

    /// Returns the run time of its nth execution, which depends on the seed only.
    pub(super) fn run_time(&self, setup: &Setup, number: u64) -> Duration {
        if self.fault == Fault::RunsLong {
            return Duration::from_millis(2500);
        }
        let latency = setup.latency;
        let mut random = Random::new(setup.seed ^ (u64::from(self.index) << 32) ^ number);
        let is_tail = random.below(100) < latency.tail_percent;
        let spread = latency.median_ms / 2 + random.below(latency.median_ms + 1);
        Duration::from_millis(if is_tail { latency.tail_ms } else { spread })
    }

    /// Returns its entry of the inventory: three regions with three zones each.
    pub(super) fn inventory_entry(&self) -> Value {
        let region = ["us-east-1", "us-west-2", "eu-west-1"][self.index as usize % 3];
        let zone = format!("{region}{}", ["a", "b", "c"][self.index as usize / 3 % 3]);
        json!({ "id": self.id, "address": self.address.to_string(), "region": region, "zone": zone, "app": "sim" })
    }
}

/// Returns the id of an instance.
pub(super) fn id(index: u32) -> InstanceId {
    InstanceId::new(format!("i-{index:05}")).expect("a valid id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_one_instance() {
        for index in [0, 1, 254, 255, 256, 9_999] {
            let instance = Instance::new(index, Fault::Healthy, [80, 81]);
            assert!(instance.address.ip().is_loopback());
            assert_eq!(Instance::index_of(instance.address), Some(index as usize));
        }
        assert_eq!(Instance::index_of(SocketAddr::from(([127, 0, 0, 1], 80))), None);
    }
}
