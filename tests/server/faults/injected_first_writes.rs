//! Every system call of the first write to a store fails, one at a time: what makes it this cluster's store, and what makes the
//! cluster remember it.

use std::fs;
use std::path::Path;

use crate::evidence::{Found, Promise, proves};
use crate::faults::bed::{Bed, CALLS, SHARED_CALLS, Scenario, insert};
use crate::support::broken_store::as_root;
use crate::support::encryption::reload;
use crate::support::store_files::StoreFiles;
use crate::support::volumes::Kind;

/// Has the server store in this directory from now on.
fn move_to(bed: &Bed, root: &Path) {
    bed.store.cluster.set_conf(&format!("rbytea.filesystem_storage_path = '{}'", root.display()));
    reload(&bed.store.cluster, &[bed.db()]);
}

/// Files that only exist while they are being written.
fn leftovers(dir: &Path) -> u64 {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".tmp")).count() as u64
}

#[test]
fn every_failing_call_of_the_first_write_to_a_store() {
    let mut bed = Bed::on(Kind::Ext4);
    let new = |bed: &Bed| bed.store.cluster.dir().join(format!("store-{}", bed.next));
    let remembered = bed.store.cluster.data().join("rbytea.stores");
    // As strace shows them: names of the same beginning, and a descriptor of the directory itself.
    let (unfinished, directory) =
        (bed.store.cluster.data().join("rbytea."), bed.store.cluster.dir().join("data>"));
    let scenario = Scenario {
        name: "first write",
        begin: &|bed| {
            let numbers = bed.take(1);
            let root = new(bed);
            fs::create_dir(&root).unwrap();
            as_root("chown", &["--reference", bed.store.root.to_str().unwrap(), root.to_str().unwrap()]);
            move_to(bed, &root);
            bed.watched = vec![root, remembered.clone(), unfinished.clone(), directory.clone()];
            insert(&numbers)
        },
        end: &|bed, acknowledged| {
            let (root, first) = (new(bed), bed.next - 1);
            let mut found = Found::default();
            if !acknowledged {
                bed.db().run(&insert(&(first..first + 1)));
            }
            let verdict: String = bed.db().one("select verdict(r, b) from twins where n = $1", &[&first]);
            found.lost += u64::from(verdict != "intact");
            let uuid: String = bed.db().one("select uuid(r)::text from twins where n = $1", &[&first]);
            let files = StoreFiles::walk(&root);
            found.dangling += u64::from(!files.values().any(|files| files.find(&uuid).is_some()));
            found.leaked += leftovers(&root) + leftovers(&bed.store.cluster.data());
            bed.add(found);
            bed.db().run(&format!("delete from twins where n = {first}"));
            fs::remove_dir_all(&root).unwrap();
            move_to(bed, &bed.store.root);
        },
        // Rust's library tries again.
        tolerates: &["data>) = -1 EINTR", "tmp>) = -1 EINTR"],
    };
    bed.run(&scenario, &[CALLS, &["rename"]].concat(), false);
    bed.run(&scenario, &[SHARED_CALLS, &["read"]].concat(), true);
    proves(Promise::ErrorsLoseNothing, bed.found());
}
