//! Clients of a real Orthanc that upload while something happens, and the judge of what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

use crate::evidence::{Found, Promise, proves};
use crate::support::cluster::Cluster;
use crate::support::orthanc::{Orthanc, dicom, program};
use crate::support::tool::{Ran, run};

/// What storescu says of an answer.
const RESPONSE: &str = "Received Store Response";

/// How many clients upload by REST; one more does by C-STORE.
pub const REST: u32 = 4;

/// How many files each of them uploads after all is over.
const AFTERWARDS: u32 = 3;

/// The file of a number: one parameter of a statement, or streamed.
pub fn file(number: u32) -> Vec<u8> {
    dicom("FAULT", number, if number.is_multiple_of(3) { 40 } else { 2 })
}

/// What of a file is sent by C-STORE: all behind the group 0002, whose length is in its first element.
fn data_set(file: &[u8]) -> &[u8] {
    let len = u32::from_le_bytes(file[140..144].try_into().unwrap());
    &file[144 + len as usize..]
}

/// What was said of each file that was uploaded.
#[derive(Debug, Default)]
pub struct Told {
    /// Stored.
    pub stored: BTreeSet<u32>,
    /// Those of them that came by C-STORE.
    by_c_store: BTreeSet<u32>,
    /// Not stored, with the body of the answer; a string of C-STORE's.
    pub refused: BTreeMap<u32, Value>,
    /// Nothing.
    pub unanswered: BTreeSet<u32>,
    /// How many of the stored ones were refused before.
    again: usize,
}

/// The clients.
#[derive(Default)]
pub struct Clients {
    told: Mutex<Told>,
    next: AtomicU32,
}

impl Clients {
    /// What they were told until now.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// How many files are stored.
    pub fn stored(&self) -> usize {
        self.told().stored.len()
    }

    /// Uploads new files for as long as something happens, and some more. A client that gets no answer ends.
    pub fn upload_during(&self, orthanc: &Orthanc, happens: impl FnOnce()) {
        self.upload_to(&[orthanc], happens);
    }

    /// The same to several Orthancs, among which the clients are divided.
    pub fn upload_to(&self, orthancs: &[&Orthanc], happens: impl FnOnce()) {
        let over = Over::default();
        thread::scope(|scope| {
            for client in 0..=REST {
                let (over, orthanc) = (&over, orthancs[client as usize % orthancs.len()]);
                scope.spawn(move || {
                    let mut afterwards = 0;
                    while afterwards < AFTERWARDS {
                        afterwards += u32::from(over.0.load(Ordering::SeqCst));
                        let number = self.next.fetch_add(1, Ordering::SeqCst);
                        let answered = if client < REST {
                            self.post(orthanc, number)
                        } else {
                            self.c_store(orthanc, number)
                        };
                        if !answered {
                            return;
                        }
                    }
                });
            }
            let _end = End(&over);
            happens();
        });
    }

    /// Uploads what was refused once more.
    pub fn upload_again(&self, orthanc: &Orthanc) {
        let refused = std::mem::take(&mut self.told().refused);
        self.told().again += refused.len();
        for number in refused.into_keys() {
            assert!(self.post(orthanc, number), "{}", orthanc.log());
        }
        assert!(self.told().refused.is_empty(), "{:?}: {}", self.told(), orthanc.log());
    }

    fn post(&self, orthanc: &Orthanc, number: u32) -> bool {
        let answer = orthanc.try_request("POST", "/instances", &file(number));
        let mut told = self.told();
        match answer {
            Some(answer) if answer.status == 200 => {
                told.stored.insert(number);
            }
            Some(answer) => {
                told.refused.insert(number, serde_json::from_slice(&answer.body).unwrap());
            }
            None => {
                told.unanswered.insert(number);
                return false;
            }
        }
        true
    }

    fn c_store(&self, orthanc: &Orthanc, number: u32) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, file(number)).unwrap();
        let sent = orthanc.try_c_store(&[path]);
        let mut told = self.told();
        match sent {
            Err(said) if !said.contains(RESPONSE) => {
                told.unanswered.insert(number);
                return false;
            }
            // What became of the association after the answer does not count.
            Err(said) if !said.contains(&format!("{RESPONSE} (Success)")) => {
                told.refused.insert(number, said.into());
            }
            _ => {
                told.stored.insert(number);
                told.by_c_store.insert(number);
            }
        }
        true
    }

    /// That every file that was acknowledged is there, byte for byte, that none is damaged or missing, and that rows that the index
    /// does not know are found and deleted; how many of these there were.
    #[track_caller]
    pub fn judge(&self, cluster: &Cluster, orthanc: &Orthanc) -> usize {
        let told = self.told();
        assert!(told.refused.keys().all(|number| !told.stored.contains(number)));
        let ids = instances(orthanc);
        let is_there = |number: &u32| {
            let Some(id) = ids.get(number) else { return false };
            let verify = format!("/instances/{id}/attachments/dicom/verify-md5");
            let (given, wanted) =
                (orthanc.request("GET", &format!("/instances/{id}/file"), b"").body, file(*number));
            // The head of what came by C-STORE is Orthanc's own.
            let same = if told.by_c_store.contains(number) {
                given.ends_with(data_set(&wanted))
            } else {
                given == wanted
            };
            same && orthanc.request("POST", &verify, b"").status == 200
        };
        let lost: Vec<&u32> = told.stored.iter().filter(|number| !is_there(number)).collect();
        let db = cluster.session();
        let dangling: i64 =
            db.one("select count(*) from rbytea_check(digest => true) where relation is not null", &[]);
        assert!(lost.is_empty() && dangling == 0, "{lost:?} are lost: {}", orthanc.log());
        let found = Found { cases: told.stored.len() as u64, ..Found::default() };
        proves(Promise::Durable, found);
        let check = || tool(cluster, orthanc, &["check", "--digest"]).ends_with(0);
        check();

        let attachments =
            |id: &String| orthanc.get(&format!("/instances/{id}/attachments")).as_array().unwrap().len();
        let known: usize = ids.values().map(attachments).sum();
        let rows = || db.one::<i64>("select count(*) from orthanc_files", &[]) as usize;
        let unknown = rows() - known;
        // They may be of uploads that go on, for a day.
        tool(cluster, orthanc, &["orphans"]).ends_with(0);
        db.run("update orthanc_files set stored = stored - interval '2 days'");
        let found = tool(cluster, orthanc, &["orphans"]).ends_with(if unknown == 0 { 0 } else { 2 });
        assert_eq!(found.text().lines().count(), unknown, "{}", found.text());
        tool(cluster, orthanc, &["orphans", "--delete"]).ends_with(0);
        assert_eq!(rows(), known);
        check();
        println!(
            "{} stored, {} of them at the second time, {} refused, {} without an answer, {unknown} unknown to the index",
            told.stored.len(),
            told.again,
            told.refused.len(),
            told.unanswered.len()
        );
        unknown
    }
}

/// Whether what happens is over.
#[derive(Default)]
struct Over(AtomicBool);

/// Says so, also where a test fails: the clients are waited for.
struct End<'a>(&'a Over);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}

/// The instances that an Orthanc knows, by the numbers of their files.
pub fn instances(orthanc: &Orthanc) -> BTreeMap<u32, String> {
    let all = orthanc.get("/instances?expand");
    let instance = |instance: &Value| {
        let number = instance["MainDicomTags"]["InstanceNumber"].as_str().unwrap().trim().parse().unwrap();
        (number, instance["ID"].as_str().unwrap().to_owned())
    };
    all.as_array().unwrap().iter().map(instance).collect()
}

/// How often the plugin has tried again.
pub fn retries(orthanc: &Orthanc) -> u64 {
    orthanc.get("/rbytea/status")["since_start"]["retries"].as_u64().unwrap()
}

/// The password of who owns the tables, where that takes one.
pub const PASSWORD: &str = "right";

/// `orthanc-rbytea` as who owns the tables, which asks this Orthanc for its index.
fn tool(cluster: &Cluster, orthanc: &Orthanc, arguments: &[&str]) -> Ran {
    let owner = cluster
        .session()
        .text("select relowner::regrole::text from pg_class where oid = 'orthanc_files'::regclass");
    let mut command = command(cluster, arguments);
    run(command.args(["-U", &owner, "--index", &orthanc.url()]).env("PGPASSWORD", PASSWORD))
}

/// `orthanc-rbytea` with these arguments, in a home directory that has nothing.
pub fn command(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = cluster.client_command(program("orthanc-rbytea"));
    command.args(arguments).env("HOME", "/nonexistent");
    command
}

/// Keys that have an operation tried again for a minute and more.
pub fn patient() -> Value {
    json!({ "MaximumConnectionRetries": 100 })
}
