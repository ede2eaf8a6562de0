//! Detection of the mounted hierarchies and of this process's groups in them.

use std::fs;
use std::path::{Path, PathBuf};

use super::control::{IO_WEIGHT, LIMITS};
use super::tree::Tree;
use super::{v1, v2};

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Controllers of a v1 hierarchy; `None` for the v2 hierarchy.
    controllers: Option<Vec<String>>,
    /// The group that is mounted: `/`, or a subgroup in a container.
    root: String,
    point: PathBuf,
}

/// Detects the hierarchies. `parent` is the parent group of executions, relative to each mount point; without it, the parent is this
/// process's own group.
pub(crate) fn detect(parent: Option<&str>) -> Tree {
    let mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut tree = Tree { own: parent.is_none(), ..Tree::default() };
    for controller in v1::Controller::ALL {
        let mount =
            mounts.iter().find(|m| m.controllers.as_ref().is_some_and(|c| c.iter().any(|c| c == controller.name())));
        match mount.map(|mount| parent_dir(mount, own_path(&own, Some(controller.name())), parent)) {
            Some(Ok(dir)) => tree.v1.push(v1::Parent { controller, dir }),
            Some(Err(why)) => tree.unusable.extend(controller.limit().map(|limit| (limit, why))),
            None => {}
        }
    }
    if let Some(mount) = mounts.iter().find(|m| m.controllers.is_none()) {
        let own = own_path(&own, None).map(|path| path.strip_suffix(&format!("/{}", v2::OWN_LEAF)).unwrap_or(path));
        let wanted: Vec<&'static str> = LIMITS
            .into_iter()
            .chain([IO_WEIGHT])
            .filter(|limit| !tree.v1.iter().any(|p| p.controller.limit() == Some(limit)))
            .collect();
        let offered = |dir: &Path| v2::offered(dir, &wanted);
        match parent_dir(mount, own, parent) {
            Ok(dir) => {
                if parent.is_some() {
                    delegate_from_top(&mount.point, &dir, &wanted);
                }
                let limits = v2::delegate(&dir, &wanted, parent.is_none());
                // Controllers that the host has but that are not delegated to the parent group.
                let not = offered(&mount.point).into_iter().filter(|limit| !limits.contains(limit));
                tree.unusable.extend(not.map(|limit| (limit, not_delegated(&dir))));
                tree.v2 = Some(v2::Parent { dir, limits });
            }
            Err(why) => tree.unusable.extend(offered(&mount.point).into_iter().map(|limit| (limit, why.clone()))),
        }
    }
    if let Some(parent) = &tree.v2 {
        // Every v2 group counts processor time, even without controllers, and kills its processes without freezing them first:
        // one or two hierarchies less per execution.
        let is_needed = |controller| match controller {
            v1::Controller::Cpuacct => false,
            v1::Controller::Freezer => !can_kill(&parent.dir),
            _ => true,
        };
        (tree.v1, tree.v1_earlier) = tree.v1.into_iter().partition(|parent| is_needed(parent.controller));
    }
    tree
}

/// Returns true if groups in `parent` have `cgroup.kill` (since Linux 5.14).
fn can_kill(parent: &Path) -> bool {
    let probe = parent.join(format!("bolt-detect-{}", std::process::id()));
    let can = fs::create_dir(&probe).is_ok() && probe.join("cgroup.kill").exists();
    let _ = fs::remove_dir(&probe);
    can
}

/// Delegates controllers along the whole path: a group has only the controllers that all its parents delegate.
fn delegate_from_top(top: &Path, dir: &Path, wanted: &[&'static str]) {
    let mut above: Vec<&Path> = dir.ancestors().skip(1).take_while(|a| a.starts_with(top)).collect();
    above.reverse();
    for group in above {
        v2::delegate(group, wanted, false);
    }
}

fn not_delegated(dir: &Path) -> String {
    format!("the controller is not delegated to {} (systemd: Delegate=yes; or run the launcher as root)", dir.display())
}

/// Returns the parent directory of groups after a test that groups can be created in it; else the reason why not.
fn parent_dir(mount: &Mount, own: Option<&str>, parent: Option<&str>) -> Result<PathBuf, String> {
    let dir = match parent {
        Some(parent) => {
            let dir = mount.point.join(parent.trim_matches('/'));
            let _ = fs::create_dir_all(&dir);
            dir
        }
        None => {
            let relative =
                own.and_then(|own| if mount.root == "/" { Some(own) } else { own.strip_prefix(&*mount.root) });
            let elsewhere = || format!("the launcher's own group is not visible in {}", mount.point.display());
            mount.point.join(relative.ok_or_else(elsewhere)?.trim_matches('/'))
        }
    };
    // Mode bits say little about cgroupfs (read-only mounts, namespaces): create a group.
    let probe = dir.join(format!("bolt-detect-{}", std::process::id()));
    fs::create_dir(&probe).map_err(|e| format!("cannot create a group in {}: {e}", dir.display()))?;
    let _ = fs::remove_dir(&probe);
    Ok(dir)
}

/// Returns this process's path in the hierarchy of a controller (`None`: in the v2 hierarchy).
fn own_path<'a>(text: &'a str, controller: Option<&str>) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = match controller {
            Some(controller) => controllers.split(',').any(|c| c == controller),
            None => id == "0" && controllers.is_empty(),
        };
        fits.then_some(path)
    })
}

/// Parses the cgroup mounts of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let mut front = front.split(' ').skip(3);
            let (root, point) = (front.next()?.to_owned(), PathBuf::from(unescape(front.next()?)));
            let mut back = back.split(' ');
            let kind = back.next()?;
            let options = back.nth(1).unwrap_or_default();
            match kind {
                "cgroup2" => Some(Mount { controllers: None, root, point }),
                "cgroup" => {
                    let controllers = options.split(',').map(str::to_owned).collect();
                    Some(Mount { controllers: Some(controllers), root, point })
                }
                _ => None,
            }
        })
        .collect()
}

/// Decodes the octal escapes of blanks and backslashes in mount points.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 /docker/ab /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
42 31 0:39 / /tmp rw - tmpfs tmpfs rw";

    #[test]
    fn hierarchies_are_parsed_from_mountinfo() {
        let found = parse_mounts(HYBRID);
        assert_eq!(found.len(), 3);
        assert!(found[1].controllers.as_ref().unwrap().contains(&"cpu".to_owned()));
        let v2 = Mount { controllers: None, root: "/docker/ab".into(), point: "/sys/fs/cgroup/uni fied".into() };
        assert_eq!(found[2], v2);
    }

    #[test]
    fn the_own_path_is_found_per_controller() {
        let own = "4:memory:/a/b\n1:cpu,cpuacct:/c\n0::/d:e\n";
        assert_eq!(own_path(own, Some("memory")), Some("/a/b"));
        assert_eq!(own_path(own, Some("cpu")), Some("/c"));
        assert_eq!(own_path(own, None), Some("/d:e"));
        assert_eq!(own_path(own, Some("pids")), None);
    }
}
