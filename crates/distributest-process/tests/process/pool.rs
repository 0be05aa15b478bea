//! Cgroups that one tree after another lives in.

use std::path::{Path, PathBuf};

use distributest_process::{CgroupPool, Delegation, ProcessSpec, ProcessTree};

use crate::common::{shell, skipped};

/// Removed with all below it, also when the test fails.
struct Parent(PathBuf);

impl Drop for Parent {
    fn drop(&mut self) {
        let below = std::fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        // What is a file goes with its directory, and what is gone already needs nothing.
        below.chain([self.0.clone()]).for_each(|path| _ = std::fs::remove_dir(path));
    }
}

/// A pool in a cgroup of its own, so that nobody else's have its names.
fn pool() -> Option<(CgroupPool, Parent)> {
    let own = Delegation::find(Path::new("/proc/self/mounts"), Path::new("/proc/self/cgroup"));
    let own = own.inspect_err(|error| skipped(&format!("cgroups that are used again: {error}"))).ok()?;
    let directory = own.directory().join(format!("distributest-test-pool-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let parent = Parent(directory.clone());
    // A hierarchy that begins at that cgroup.
    let place = tempfile::tempdir().unwrap();
    let (mounts, membership) = (place.path().join("mounts"), place.path().join("membership"));
    std::fs::write(&mounts, format!("none {} cgroup2 rw 0 0\n", directory.display())).unwrap();
    std::fs::write(&membership, "0::/\n").unwrap();
    Some((CgroupPool::new(Delegation::find(&mounts, &membership).unwrap()), parent))
}

/// Runs a script in a cgroup of the pool to its end, and everything it leaves; returns the cgroup's directory.
async fn run(pool: &CgroupPool, script: impl FnOnce(&Path) -> String) -> PathBuf {
    let cgroup = pool.take().unwrap();
    let directory = cgroup.directory().to_owned();
    let spec = ProcessSpec { cgroup: Some(cgroup), ..shell(&script(&directory)) };
    let tree = ProcessTree::spawn(spec).await.unwrap();
    tree.wait().await;
    assert_eq!(tree.leaked(std::time::Duration::ZERO).await.unwrap().len(), 0);
    directory
}

#[tokio::test]
async fn a_cgroup_is_used_again_unless_something_was_done_to_it() {
    let Some((pool, parent)) = pool() else { return };
    let first = run(&pool, |_| "true".to_owned()).await;
    let again = run(&pool, |_| "true".to_owned()).await;
    assert_eq!(again, first);
    run(&pool, |cgroup| format!("mkdir {}/below", cgroup.display())).await;
    assert!(!first.exists(), "with another cgroup below it, it is removed");
    let second = run(&pool, |_| "true".to_owned()).await;
    let held = pool.take().unwrap();
    assert_eq!(held.directory(), second);
    assert_ne!(pool.take().unwrap().directory(), second, "one at a time");
    std::fs::write(second.join("cgroup.freeze"), "1").unwrap();
    drop(held);
    assert!(!second.exists(), "the next tree would stand still in it");
    let held = pool.take().unwrap();
    let third = held.directory().to_owned();
    std::fs::write(third.join("cgroup.type"), "threaded").unwrap();
    drop(held);
    assert!(!third.exists(), "the next tree could not be in it");
    drop(pool);
    std::fs::remove_dir(&parent.0).expect("nothing is left of the pool");
}
