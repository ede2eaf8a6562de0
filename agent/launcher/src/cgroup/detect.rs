//! Which hierarchies this host has, and where in them this process is.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Tree, v1, v2};

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The controllers of a v1 hierarchy; `None`: the v2 hierarchy.
    controllers: Option<Vec<String>>,
    /// Which part of the hierarchy is mounted.
    root: String,
    point: PathBuf,
}

/// Finds the hierarchies. `parent` is where executions get their groups, below each mount; without it, this process's own group.
pub(crate) fn detect(parent: Option<&str>) -> Tree {
    let mounts = mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut tree = Tree { own: parent.is_none(), ..Tree::default() };
    for controller in v1::Controller::ALL {
        let mount =
            mounts.iter().find(|m| m.controllers.as_ref().is_some_and(|c| c.iter().any(|c| c == controller.name())));
        match mount.map(|mount| place(mount, own_path(&own, Some(controller.name())), parent)) {
            Some(Ok(dir)) => tree.v1.push(v1::Parent { controller, dir }),
            Some(Err(why)) => tree.why.extend(controller.limit().map(|limit| (limit, why))),
            None => {}
        }
    }
    if let Some(mount) = mounts.iter().find(|m| m.controllers.is_none()) {
        let own = own_path(&own, None).map(|path| path.strip_suffix(&format!("/{}", v2::OWN_LEAF)).unwrap_or(path));
        let wanted: Vec<&'static str> = super::LIMITS
            .into_iter()
            .chain([super::IO_WEIGHT])
            .filter(|limit| !tree.v1.iter().any(|p| p.controller.limit() == Some(limit)))
            .collect();
        let offered = |dir: &Path| v2::offered(dir, &wanted);
        match place(mount, own, parent) {
            Ok(dir) => {
                if parent.is_some() {
                    hand_down(&mount.point, &dir, &wanted);
                }
                let limits = v2::delegate(&dir, &wanted, parent.is_none());
                // The host has them, and they are not this group's to hand down.
                let not = offered(&mount.point).into_iter().filter(|limit| !limits.contains(limit));
                tree.why.extend(not.map(|limit| (limit, not_delegated(&dir))));
                tree.v2 = Some(v2::Parent { dir, limits });
            }
            Err(why) => tree.why.extend(offered(&mount.point).into_iter().map(|limit| (limit, why.clone()))),
        }
    }
    if tree.v2.is_some() {
        // Processor time is counted in every v2 group, controllers or not: one hierarchy less for each execution.
        tree.v1.retain(|parent| parent.controller != v1::Controller::Cpuacct);
    }
    tree
}

/// Controllers reach a group only through every group above it.
fn hand_down(top: &Path, dir: &Path, wanted: &[&'static str]) {
    let mut above: Vec<&Path> = dir.ancestors().skip(1).take_while(|a| a.starts_with(top)).collect();
    above.reverse();
    for group in above {
        v2::delegate(group, wanted, false);
    }
}

fn not_delegated(dir: &Path) -> String {
    format!("the controller is not delegated to {} (systemd: Delegate=yes; or run the launcher as root)", dir.display())
}

/// The directory below which groups are made, which exists and in which groups can be made; or why they cannot.
fn place(mount: &Mount, own: Option<&str>, parent: Option<&str>) -> Result<PathBuf, String> {
    let dir = match parent {
        Some(parent) => {
            let dir = mount.point.join(parent.trim_matches('/'));
            let _ = fs::create_dir_all(&dir);
            dir
        }
        None => {
            let below = own.and_then(|own| if mount.root == "/" { Some(own) } else { own.strip_prefix(&*mount.root) });
            let elsewhere = || format!("the launcher's own group is not below {}", mount.point.display());
            mount.point.join(below.ok_or_else(elsewhere)?.trim_matches('/'))
        }
    };
    // `access` and mode bits say little about cgroupfs (read-only mounts, namespaces): try it.
    let probe = dir.join(format!("bolt-detect-{}", std::process::id()));
    fs::create_dir(&probe).map_err(|e| format!("no group can be made in {}: {e}", dir.display()))?;
    let _ = fs::remove_dir(&probe);
    Ok(dir)
}

/// This process's path in the hierarchy of a controller (`None`: in the v2 hierarchy).
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

fn mounts(mountinfo: &str) -> Vec<Mount> {
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

/// Mount points have blanks and backslashes as octal escapes.
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
    fn hierarchies_are_read_from_mountinfo() {
        let found = mounts(HYBRID);
        assert_eq!(found.len(), 3);
        assert!(found[1].controllers.as_ref().unwrap().contains(&"cpu".to_owned()));
        let v2 = Mount { controllers: None, root: "/docker/ab".into(), point: "/sys/fs/cgroup/uni fied".into() };
        assert_eq!(found[2], v2);
    }

    #[test]
    fn the_own_path_is_that_of_the_controller() {
        let own = "4:memory:/a/b\n1:cpu,cpuacct:/c\n0::/d:e\n";
        assert_eq!(own_path(own, Some("memory")), Some("/a/b"));
        assert_eq!(own_path(own, Some("cpu")), Some("/c"));
        assert_eq!(own_path(own, None), Some("/d:e"));
        assert_eq!(own_path(own, Some("pids")), None);
    }
}
