//! The Orthanc of the package `orthanc` with the storage plugin, its REST interface, and DICOM files to give it. With `ORTHANC_ROOT` it is that of
//! the Debian in this directory (scripts/make-orthanc-root.sh), which takes root.
#![allow(dead_code, reason = "every user of this module takes the part it needs")]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{PATIENCE, wait_until};

/// The official plugins.
const INDEX: &str = "/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so";
const STORAGE: &str = "/usr/share/orthanc/plugins/libOrthancPostgreSQLStorage.so";

/// Orthanc in another Debian, $1, where the directory of temporary files, $2, is this one's, so that sockets and
/// files have the same paths. The mounts end with it.
const IN_ROOT: &str = r#"for dir in /dev /proc "$2"; do mkdir -p "$1$dir"; mount --rbind "$dir" "$1$dir"; done
exec chroot "$1" /usr/sbin/Orthanc "$3""#;

/// The plugin of the build that the running program belongs to.
pub fn plugin() -> PathBuf {
    program("libOrthancRbyteaStorage.so")
}

/// A file of that build.
pub fn program(name: &str) -> PathBuf {
    let running = std::env::current_exe().unwrap();
    // <target>/debug/deps/server-…
    let path = running.ancestors().nth(3).unwrap().join("release").join(name);
    assert!(path.exists(), "{} is not there: make plugin", path.display());
    path
}

/// An Orthanc with the plugins of its configuration; it ends when this is dropped.
pub struct Orthanc {
    process: Child,
    dir: TempDir,
    http: u16,
    dicom: u16,
}

/// What a request was answered.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, of a request that was not refused.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// How much of a file is compared at a time.
const CHUNK: usize = 1 << 16;

/// The status that the head of an answer begins with.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Orthanc {
    /// Starts one with these sections of the configuration, and the official index in PostgreSQL if there is a section of it.
    pub fn start(sections: &Value) -> Self {
        Self::start_in(sections, tempfile::tempdir().unwrap())
    }

    /// The same with its files and its index in this directory.
    pub fn start_in(sections: &Value, dir: TempDir) -> Self {
        Self::launch(sections, dir).started()
    }

    /// Starts one and waits for nothing. It ends with the thread that calls this.
    pub fn launched(sections: &Value) -> Self {
        Self::launch(sections, tempfile::tempdir().unwrap())
    }

    /// Waits until it answers.
    #[track_caller]
    pub fn started(mut self) -> Self {
        wait_until(PATIENCE, || {
            assert!(self.process.try_wait().unwrap().is_none(), "{}", self.log());
            self.try_request("GET", "/system", b"").is_some()
        });
        self
    }

    /// Starts one that is to end by itself; its exit status and log.
    pub fn refuses(sections: &Value) -> (ExitStatus, String) {
        let mut orthanc = Self::launched(sections);
        let mut status = None;
        wait_until(PATIENCE, || {
            status = orthanc.process.try_wait().unwrap();
            assert!(!orthanc.log().contains("Orthanc has started"), "{}", orthanc.log());
            status.is_some()
        });
        (status.unwrap(), orthanc.log())
    }

    /// A new one in the same directories, after this one has been killed.
    pub fn kill_and_restart(self, sections: &Value) -> Self {
        self.kill();
        self.restart(sections)
    }

    /// The same after this one has been asked to end.
    pub fn stop_and_restart(self, sections: &Value) -> Self {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.restart(sections)
    }

    fn restart(mut self, sections: &Value) -> Self {
        self.process.wait().unwrap();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        drop(self);
        Self::start_in(sections, dir)
    }

    fn launch(sections: &Value, dir: TempDir) -> Self {
        let (http, dicom) = (free_port(), free_port());
        let enabled = |section: &str, key: &str| {
            sections.get(section).and_then(|section| section.get(key)) == Some(&Value::Bool(true))
        };
        let root = std::env::var_os("ORTHANC_ROOT");
        let mut own = plugin();
        if root.is_some() {
            own = dir.path().join("plugin.so");
            fs::copy(plugin(), &own).unwrap();
        }
        let plugins: Vec<PathBuf> = [
            (sections.get("Rbytea").is_some(), own),
            (enabled("PostgreSQL", "EnableIndex"), INDEX.into()),
            (enabled("PostgreSQL", "EnableStorage"), STORAGE.into()),
        ]
        .into_iter()
        .filter_map(|(wanted, path)| wanted.then_some(path))
        .collect();
        let mut configuration = json!({
            "Name": "rbytea", "HttpPort": http, "DicomPort": dicom, "Plugins": plugins,
            "StorageDirectory": dir.path().join("files"), "IndexDirectory": dir.path().join("index"),
            "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "DicomCheckCalledAet": false,
            "DicomAlwaysAllowStore": true, "UserContentType": { "note": 1025 }, "UserMetadata": {},
            // Files are read where they are stored, each time.
            "MaximumStorageCacheSize": 0,
        });
        configuration.as_object_mut().unwrap().extend(sections.as_object().unwrap().clone());
        let file = dir.path().join("orthanc.json");
        fs::write(&file, configuration.to_string()).unwrap();
        let log = File::options().create(true).append(true).open(dir.path().join("log")).unwrap();
        // It must not outlive a test run that was killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match &root {
            None => command.arg("/usr/sbin/Orthanc"),
            Some(root) => command
                .args(["unshare", "--mount", "sh", "-e", "-c", IN_ROOT, "sh"])
                .args([root.as_os_str(), std::env::temp_dir().as_os_str()]),
        };
        let process = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("this takes the package orthanc");
        Self { process, dir, http, dicom }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Where its REST interface is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Where it stores files without a plugin.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    /// How many files it has stored there.
    pub fn files_on_disk(&self) -> usize {
        fn count(dir: &Path) -> usize {
            let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(&self.files())
    }

    /// A request of the REST interface; None if there is no answer.
    pub fn try_request(&self, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
        self.exchange(method, path, body.len() as u64, body).ok()
    }

    /// The same where the body, of so many bytes, is sent as it is read; or why there is no answer.
    pub fn exchange(&self, method: &str, path: &str, len: u64, body: impl Read) -> io::Result<Answer> {
        let mut answer = Vec::new();
        self.ask(method, path, len, body)?.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let head = end.and_then(|end| Some((end + 4, status(&answer[..end])?)));
        let (body, status) = head.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Answer { status, body: answer.split_off(body) })
    }

    /// Sends a request, whose answer comes over the connection.
    fn ask(&self, method: &str, path: &str, len: u64, mut body: impl Read) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        // Who answers before the end reads no more of it.
        let _ = io::copy(&mut body, &mut stream);
        Ok(stream)
    }

    /// Whether what GET gives is this, of which neither is had in memory.
    pub fn gives(&self, path: &str, mut expected: impl Read) -> bool {
        let Ok(stream) = self.ask("GET", path, 0, io::empty()) else { return false };
        let mut stream = BufReader::with_capacity(CHUNK, stream);
        let mut line = String::new();
        while !line.ends_with("\r\n\r\n") {
            if stream.read_line(&mut line).unwrap_or_default() == 0 {
                return false;
            }
        }
        let (mut given, mut wanted) = (vec![0; CHUNK], vec![0; CHUNK]);
        loop {
            let Ok(len) = stream.read(&mut given) else { return false };
            if len == 0 {
                return expected.read(&mut wanted).unwrap() == 0;
            }
            if expected.read_exact(&mut wanted[..len]).is_err() || given[..len] != wanted[..len] {
                return false;
            }
        }
    }

    /// The same, which has to be answered.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.exchange(method, path, body.len() as u64, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", self.log()))
    }

    /// A GET whose answer is JSON.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.request("GET", path, b"").json()
    }

    /// Uploads a DICOM file; the id of its instance.
    #[track_caller]
    pub fn upload(&self, file: &[u8]) -> String {
        self.request("POST", "/instances", file).json()["ID"].as_str().unwrap().to_owned()
    }

    /// Sends files by C-STORE.
    #[track_caller]
    pub fn c_store(&self, files: &[PathBuf]) {
        self.try_c_store(files).unwrap();
    }

    /// The same where that may be refused; what the client says of it.
    pub fn try_c_store(&self, files: &[PathBuf]) -> Result<(), String> {
        let sent = Command::new("storescu")
            .args(["--verbose", "localhost", &self.dicom.to_string()])
            .args(files)
            .output()
            .expect("this takes the package dcmtk");
        if sent.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&sent.stderr).into_owned()) }
    }

    /// SIGKILL.
    pub fn kill(&self) {
        kill_process(Pid::from_child(&self.process), Signal::KILL).unwrap();
    }

    /// Asks it to end, and waits for that; its directories.
    pub fn stop(mut self) -> TempDir {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

impl Drop for Orthanc {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A CT image of this patient and number, of 128 by 128 pixels and so many frames (explicit VR, little-endian; DICOM part 10).
pub fn dicom(patient: &str, number: u32, frames: usize) -> Vec<u8> {
    let (len, mut stream) = dicom_stream(patient, number, frames);
    let mut file = Vec::with_capacity(len as usize);
    stream.read_to_end(&mut file).unwrap();
    file
}

/// How long it is, and the same as it is made.
pub fn dicom_stream(patient: &str, number: u32, frames: usize) -> (u64, impl Read) {
    let study = format!("1.2.826.0.1.3680043.10.{}", patient.bytes().map(u32::from).sum::<u32>());
    let instance = format!("{study}.{number}");
    let class = "1.2.840.10008.5.1.4.1.1.2";
    let mut meta = Vec::new();
    element(&mut meta, 0x0002_0001, "OB", &[0, 1]);
    element(&mut meta, 0x0002_0002, "UI", class.as_bytes());
    element(&mut meta, 0x0002_0003, "UI", instance.as_bytes());
    element(&mut meta, 0x0002_0010, "UI", b"1.2.840.10008.1.2.1");
    element(&mut meta, 0x0002_0012, "UI", b"1.2.826.0.1.3680043.10");
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    element(&mut file, 0x0002_0000, "UL", &(meta.len() as u32).to_le_bytes());
    file.extend(meta);
    let word = |value: u16| value.to_le_bytes();
    element(&mut file, 0x0008_0016, "UI", class.as_bytes());
    element(&mut file, 0x0008_0018, "UI", instance.as_bytes());
    element(&mut file, 0x0008_0060, "CS", b"CT");
    element(&mut file, 0x0010_0010, "PN", patient.as_bytes());
    element(&mut file, 0x0010_0020, "LO", patient.as_bytes());
    element(&mut file, 0x0020_000d, "UI", study.as_bytes());
    element(&mut file, 0x0020_000e, "UI", format!("{study}.1").as_bytes());
    element(&mut file, 0x0020_0013, "IS", number.to_string().as_bytes());
    element(&mut file, 0x0028_0002, "US", &word(1));
    element(&mut file, 0x0028_0004, "CS", b"MONOCHROME2");
    element(&mut file, 0x0028_0008, "IS", frames.to_string().as_bytes());
    element(&mut file, 0x0028_0010, "US", &word(128));
    element(&mut file, 0x0028_0011, "US", &word(128));
    element(&mut file, 0x0028_0100, "US", &word(16));
    element(&mut file, 0x0028_0101, "US", &word(16));
    element(&mut file, 0x0028_0102, "US", &word(15));
    element(&mut file, 0x0028_0103, "US", &word(0));
    let pixels = u32::try_from(128 * 128 * 2 * frames).expect("the length of an element has 32 bits");
    head(&mut file, 0x7fe0_0010, "OW", pixels);
    let noise = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    (file.len() as u64 + u64::from(pixels), io::Cursor::new(file).chain(noise.take(pixels.into())))
}

/// Group and element, the kind of value, and its length, which is even.
fn head(file: &mut Vec<u8>, tag: u32, kind: &str, len: u32) {
    file.extend_from_slice(&((tag >> 16) as u16).to_le_bytes());
    file.extend_from_slice(&(tag as u16).to_le_bytes());
    file.extend_from_slice(kind.as_bytes());
    if matches!(kind, "OB" | "OW") {
        file.extend_from_slice(&[0, 0]);
        file.extend_from_slice(&len.to_le_bytes());
    } else {
        file.extend_from_slice(&(len as u16).to_le_bytes());
    }
}

/// The same with the value, padded to an even length.
fn element(file: &mut Vec<u8>, tag: u32, kind: &str, value: &[u8]) {
    let len = value.len().next_multiple_of(2);
    head(file, tag, kind, len as u32);
    file.extend_from_slice(value);
    if len > value.len() {
        file.push(if matches!(kind, "UI" | "OB" | "OW") { 0 } else { b' ' });
    }
}
