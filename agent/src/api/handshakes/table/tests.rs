//! Each rule of the table, by a clock that the test sets.

use super::*;

type Slot = (u64, oneshot::Receiver<()>);

struct Rig {
    table: Table,
    now: Instant,
}

impl Rig {
    fn new(total: usize, per_source: usize) -> Rig {
        Rig { table: Table::new(Bounds { total, per_source }), now: Instant::now() }
    }

    fn open(&mut self, source: &str) -> Slot {
        self.table.begin(source.parse().unwrap(), self.now).unwrap_or_else(|| panic!("{source} was closed"))
    }

    fn is_closed(&mut self, source: &str) -> bool {
        self.table.begin(source.parse().unwrap(), self.now).is_none()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Opens sockets that fail.
    fn failures(&mut self, source: &str, count: usize) {
        for _ in 0..count {
            let (id, _evicted) = self.open(source);
            self.table.fail(id);
        }
    }
}

fn gone(slots: &mut [Slot]) -> Vec<usize> {
    let is_gone = |slot: &mut Slot| slot.1.try_recv() == Err(oneshot::error::TryRecvError::Closed);
    slots.iter_mut().enumerate().filter_map(|(at, slot)| is_gone(slot).then_some(at)).collect()
}

#[test]
fn a_source_at_its_share_evicts_its_own() {
    let mut rig = Rig::new(10, 2);
    let mut other = vec![rig.open("192.0.2.9")];
    let mut slots: Vec<Slot> = (0..100).map(|_| rig.open("192.0.2.1")).collect();
    assert_eq!(gone(&mut slots), (0..98).collect::<Vec<_>>(), "the two newest are left");
    assert_eq!((gone(&mut other).len(), rig.table.len()), (0, 3));
}

#[test]
fn half_done_handshakes_of_a_few_sources_evict_each_other_and_no_newcomer() {
    let mut rig = Rig::new(256, 64);
    let attackers = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    let mut held: Vec<Slot> = (0..256).map(|n| rig.open(attackers[n % 4])).collect();
    rig.pass(Duration::from_secs(1));
    for n in 0..500 {
        // A caller who is slow: many sockets of the others come before it is done.
        let mut caller = vec![rig.open(&format!("198.51.100.{}", n % 250))];
        for _ in 0..100 {
            let source = attackers[n % 4];
            held.extend(rig.table.begin(source.parse().unwrap(), rig.now));
            rig.pass(Duration::from_millis(8));
        }
        assert_eq!(gone(&mut caller), [] as [usize; 0], "caller {n}");
        rig.table.succeed(caller[0].0, "198.51.100.1".parse().unwrap());
    }
}

#[test]
fn sources_without_failures_are_equal_and_the_oldest_goes() {
    let mut rig = Rig::new(3, 2);
    let mut slots: Vec<Slot> = (1..=3).map(|n| rig.open(&format!("192.0.2.{n}"))).collect();
    rig.pass(Duration::from_secs(2));
    slots.push(rig.open("192.0.2.4"));
    assert_eq!(gone(&mut slots), [0]);
    slots.push(rig.open("192.0.2.5"));
    assert_eq!(gone(&mut slots), [0, 1]);
}

#[test]
fn a_newcomer_outlives_as_many_new_sources_as_there_are_slots() {
    let mut rig = Rig::new(256, 64);
    let source = |n: u32| std::net::Ipv4Addr::from(0x7f00_0000 + n).to_string();
    let mut n = 0;
    let mut flood = |rig: &mut Rig, count: u32| {
        for _ in 0..count {
            n += 1;
            // None of them comes twice.
            let _ = rig.table.begin(source(n).parse().unwrap(), rig.now);
        }
    };
    flood(&mut rig, 1000);
    let mut caller = vec![rig.open("198.51.100.1")];
    flood(&mut rig, 255);
    assert_eq!(gone(&mut caller), [] as [usize; 0]);
    flood(&mut rig, 1);
    assert_eq!(gone(&mut caller), [0], "that is the limit");
}

#[test]
fn sources_that_failed_before_go_first_and_their_new_sockets_are_closed() {
    let mut rig = Rig::new(4, 4);
    rig.failures("192.0.2.1", 5);
    let mut slots = vec![rig.open("192.0.2.9"), rig.open("192.0.2.1"), rig.open("192.0.2.8"), rig.open("192.0.2.7")];
    slots.push(rig.open("192.0.2.6"));
    assert_eq!(gone(&mut slots), [1], "it is not the oldest, but of the source that failed");
    assert!(rig.is_closed("192.0.2.1"));
    assert_eq!(gone(&mut slots), [1]);
    // A caller of that address shows its certificate: its failures are forgotten.
    rig.table.succeed(u64::MAX, "192.0.2.1".parse().unwrap());
    slots.push(rig.open("192.0.2.1"));
    assert_eq!(gone(&mut slots), [0, 1]);
}

#[test]
fn a_caller_with_more_failures_than_others_is_not_singled_out() {
    let mut rig = Rig::new(3, 3);
    for (source, count) in [("192.0.2.1", 5), ("192.0.2.2", 5), ("192.0.2.3", 20), ("192.0.2.4", 5)] {
        rig.failures(source, count);
    }
    let mut slots = vec![rig.open("192.0.2.1"), rig.open("192.0.2.2"), rig.open("192.0.2.3")];
    slots.push(rig.open("192.0.2.4"));
    slots.push(rig.open("192.0.2.1"));
    assert_eq!(gone(&mut slots), [0, 1], "the oldest of its class");
    rig.failures("192.0.2.5", 70);
    let mut slots = vec![rig.open("192.0.2.1"), rig.open("192.0.2.2"), rig.open("192.0.2.4")];
    assert!(rig.is_closed("192.0.2.5") && gone(&mut slots).is_empty(), "that is another class");
}

#[test]
fn a_few_failures_are_not_held_against_a_source() {
    let mut rig = Rig::new(3, 3);
    rig.failures("192.0.2.1", 2);
    let mut slots = vec![rig.open("192.0.2.9"), rig.open("192.0.2.1"), rig.open("192.0.2.8")];
    slots.push(rig.open("192.0.2.7"));
    assert_eq!(gone(&mut slots), [0], "the oldest");
}

#[test]
fn fresh_slots_are_not_held_against_a_caller_who_opens_many_at_once() {
    let mut rig = Rig::new(96, 64);
    let mut others: Vec<Slot> = (0..32).map(|n| rig.open(&format!("192.0.2.{n}"))).collect();
    rig.pass(FRESH);
    let mut many: Vec<Slot> = (0..64).map(|_| rig.open("198.51.100.1")).collect();
    let mut more: Vec<Slot> = (100..120).map(|n| rig.open(&format!("192.0.2.{n}"))).collect();
    assert_eq!(
        gone(&mut others),
        (0..20).collect::<Vec<_>>(),
        "the oldest, although each is the only one of its source"
    );
    assert!(gone(&mut many).is_empty());
    rig.pass(FRESH);
    more.extend((120..130).map(|n| rig.open(&format!("192.0.2.{n}"))));
    assert_eq!(gone(&mut many), (0..10).collect::<Vec<_>>(), "now its source has the most that take too long");
    assert!(gone(&mut others).len() == 20 && gone(&mut more).is_empty());
}

#[test]
fn a_slot_that_ends_comes_free_and_a_network_is_one_source() {
    let mut rig = Rig::new(10, 1);
    let (id, _evicted) = rig.open("192.0.2.1");
    rig.table.succeed(id, "192.0.2.1".parse().unwrap());
    let mut second = vec![rig.open("192.0.2.1")];
    assert_eq!((gone(&mut second).len(), rig.table.len()), (0, 1));
    let _mapped = rig.open("::ffff:192.0.2.1");
    assert_eq!(gone(&mut second), [0]);
    let mut one = vec![rig.open("2001:db8:1:2::1")];
    let _two = rig.open("2001:db8:1:2:ffff::9");
    assert_eq!(gone(&mut one), [0]);
}

#[test]
fn no_bound_is_exceeded_and_no_count_is_left_whatever_comes() {
    let mut rig = Rig::new(16, 4);
    let mut open: Vec<Slot> = Vec::new();
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for _ in 0..5000 {
        match random(4) {
            0 if !open.is_empty() => {
                let at = usize::try_from(random(open.len() as u64)).unwrap();
                let (id, _evicted) = open.swap_remove(at);
                if random(2) == 0 { rig.table.fail(id) } else { rig.table.succeed(id, "192.0.2.1".parse().unwrap()) }
            }
            1 => rig.pass(Duration::from_millis(random(400))),
            _ => open.extend(rig.table.begin(format!("192.0.2.{}", random(9)).parse().unwrap(), rig.now)),
        }
        assert!(rig.table.len() <= 16 && rig.table.sources.values().all(|held| held.all <= 4));
    }
    open.into_iter().for_each(|(id, _)| rig.table.fail(id));
    assert!(rig.table.entries.is_empty() && rig.table.sources.is_empty() && rig.table.aged == 0);
}
