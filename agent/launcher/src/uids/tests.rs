use super::*;

fn pool(range: &str, runtime: &std::path::Path) -> UidPool {
    let runtime = Dir::open(runtime).unwrap();
    let records = runtime.make_dir(RECORDS, 0o700).or_else(|_| runtime.dir(RECORDS)).unwrap();
    let counter = File::create(records.path().join(COUNTER)).unwrap();
    let range = UidRange::parse(range).unwrap();
    UidPool { range, records, last: Cell::new(range.last()), counter, taken: Parsed::new(2) }
}

fn id(n: u32) -> ExecutionId {
    ExecutionId::new(format!("01932c07-1f4e-7c61-b4b0-{n:012}")).unwrap()
}

#[test]
fn an_id_is_reused_last_and_never_while_it_is_in_use() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let runtime = tempfile::tempdir().unwrap();
    let pool = pool("1990000100-1990000103", runtime.path());
    let lease = |n| pool.lease(&id(n)).map(|(lease, _)| lease);
    let (first, second) = (lease(1).unwrap(), lease(2).unwrap());
    assert_eq!((first.uid(), second.uid()), (1_990_000_100, 1_990_000_101));
    assert_eq!(pool.uid_of(&id(2)), Some(second.uid()));
    drop(first);
    let (third, mut fourth) = (lease(3).unwrap(), lease(4).unwrap());
    assert_eq!((third.uid(), fourth.uid()), (1_990_000_102, 1_990_000_103), "a released id is reused last");
    let again = lease(5).unwrap();
    assert_eq!(again.uid(), 1_990_000_100);
    assert!(matches!(lease(6), Err(LeaseError::Exhausted(_))));
    // After the hand-over, the record stays.
    let held = fourth.uid();
    fourth.hand_over();
    drop((second, third, fourth, again));
    assert_eq!(pool.leases(), [(held, id(4).to_string())]);
    // A child that another test forks at this moment holds every lock of this process until it calls exec.
    let until = Instant::now() + Duration::from_secs(20);
    pool.prune();
    while !pool.leases().is_empty() && Instant::now() < until {
        std::thread::yield_now();
        pool.prune();
    }
    assert_eq!(pool.leases(), [], "no shim and no process has the id");
}

#[test]
fn the_id_of_kept_processes_is_not_leased_while_they_live() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (runtime, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let range = "1990000300-1990000301";
    let (mine, others) = (pool(range, runtime.path()), pool(range, other.path()));
    let mut lease = mine.lease(&id(1)).unwrap().0;
    let uid = lease.uid();
    let mut service = std::process::Command::new("sleep").arg("600").uid(uid).gid(uid).spawn().unwrap();
    assert!(lease.is_in_use());
    lease.keep(&Dir::open(runtime.path()).unwrap());
    lease.hand_over();
    drop(lease);
    assert_eq!(mine.leases(), []);
    for pool in [&mine, &others] {
        for n in 2..4 {
            assert_ne!(pool.lease(&id(n)).unwrap().0.uid(), uid);
        }
    }
    service.kill().unwrap();
    service.wait().unwrap();
    let mut given: Vec<u32> = (4..6).map(|n| others.lease(&id(n)).unwrap().0.uid()).collect();
    given.sort_unstable();
    assert_eq!(given, [uid, uid + 1], "the id is free again");
}

#[test]
fn launchers_with_other_runtime_directories_share_no_id() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (pool("1990000200-1990000201", one.path()), pool("1990000200-1990000201", other.path()));
    let first = one.lease(&id(1)).unwrap().0;
    let second = other.lease(&id(2)).unwrap().0;
    assert_ne!(first.uid(), second.uid());
    assert!(matches!(other.lease(&id(3)), Err(LeaseError::Exhausted(_))));
}
