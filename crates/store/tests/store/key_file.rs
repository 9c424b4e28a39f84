//! Key files: which are accepted, and that errors name the problem and repeat no text of the file.

use proptest::prelude::*;
use rbytea_store::crypt::key_file::{MAX_BYTES, check_access};
use rbytea_store::{Error, KeyFileProblem as Problem, KeyRing, Kind};
use rustix::fs::{CWD, FileType, Mode};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn parse(text: impl AsRef<[u8]>) -> Result<KeyRing, Error> {
    KeyRing::parse(Path::new("/etc/keys"), text.as_ref())
}

#[track_caller]
fn ids(text: &str) -> Vec<u16> {
    parse(text).unwrap().iter().map(|key| key.id()).collect()
}

#[test]
fn lines_in_every_accepted_form() {
    assert_eq!(ids(&format!("1 {A}")), [1]);
    assert_eq!(ids(&format!("1 {A}\n")), [1]);
    assert_eq!(ids(&format!("65535 {A}\n1 {B}\n")), [1, 65535]);
    assert_eq!(ids(&format!(" \t1\t \t{A} \t\n")), [1]);
    assert_eq!(ids(&format!("1 {A}\r\n2 {B}\r\n")), [1, 2]);
    assert_eq!(ids(&format!("\n# 7 {A}\n  #no key\n\r\n \t\n1 {B}\n#")), [1]);
}

#[test]
fn case_of_digits_does_not_matter() {
    let lower = parse(format!("1 {B}")).unwrap();
    let upper = parse(format!("1 {}", B.to_uppercase())).unwrap();
    assert_eq!(lower.newest().fingerprint(), upper.newest().fingerprint());
}

/// Text, line and problem of what is not accepted.
fn bad() -> Vec<(String, Option<usize>, Problem, &'static str)> {
    let line =
        |text: String, problem, message| (format!("# keys\n9 {B}\n{text}\n8 x"), Some(3), problem, message);
    let id = |id: &str| line(format!("{id} {A}"), Problem::BadId, "invalid key id");
    let none = |text: &str| (text.to_owned(), None, Problem::NoKey, "contains no key");
    let not_hex = "key has characters that are not hexadecimal digits";
    let surplus = "unexpected text after the key";
    let zero = "0".repeat(64);
    vec![
        none(""),
        none("\n\r\n"),
        none("# 1 0123456789abcdef\n"),
        id("0"),
        id("00"),
        id("01"),
        id("+1"),
        id("-1"),
        id("65536"),
        id("99999999999999999999"),
        id("0x1"),
        id("1.0"),
        id("one"),
        id("１"),
        id("\u{feff}1"),
        id("1:"),
        id("\u{a0}1"),
        line(A.into(), Problem::BadId, "invalid key id"),
        line("1".into(), Problem::NoDigits, "missing key"),
        line("1 \t\r".into(), Problem::NoDigits, "missing key"),
        line(format!("1{A}"), Problem::BadId, "invalid key id"),
        line(format!("1 {}", &A[1..]), Problem::TooShort, "key is too short"),
        line("1 a".into(), Problem::TooShort, "key is too short"),
        line(format!("1 {A}a"), Problem::TooLong, "key is too long"),
        line(format!("1 {A}{A}"), Problem::TooLong, "key is too long"),
        line(format!("1 0x{A}"), Problem::NotHex, not_hex),
        line(format!("1 g{}", &A[1..]), Problem::NotHex, not_hex),
        line(format!("1 {A}\0"), Problem::NotHex, not_hex),
        line(format!("1 {A}\r\r"), Problem::NotHex, not_hex),
        line(format!("1 {A}#"), Problem::NotHex, not_hex),
        line(format!("1 {A} # the first"), Problem::Surplus, surplus),
        line(format!("1 {A} {A}"), Problem::Surplus, surplus),
        line(format!("1 {zero}"), Problem::Zero, "key is zero"),
        line(format!("9 {A}"), Problem::SameId { first: 2 }, "duplicate key id"),
        (
            format!("1 {A}\n\n2 {B}\n3 {}\n4 {A}", B.to_uppercase()),
            Some(4),
            Problem::SameKey { first: 3 },
            "duplicate key",
        ),
    ]
}

#[test]
fn bad_files_are_refused_with_line_and_reason() {
    for (text, line, problem, message) in bad() {
        let error = parse(&text).unwrap_err();
        let Error::KeyFile { path, line: found_line, problem: found, source: None } = &error else {
            panic!("{text:?}: {error:?}");
        };
        assert_eq!(
            (path.as_path(), *found_line, *found),
            (Path::new("/etc/keys"), line, problem),
            "{text:?}"
        );
        let expected = match line {
            Some(line) => format!("invalid entry in key file \"/etc/keys\" line {line}: {message}"),
            None => format!("key file \"/etc/keys\" {message}"),
        };
        assert_eq!(error.to_string(), expected, "{text:?}");
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.detail().is_some() || error.hint().is_some(), "{error}");
        assert!(does_not_repeat(&text, &error), "{error:?}");
    }
}

/// Whether message, DETAIL, HINT and debug output of an error have no eight hexadecimal digits in a row of `text`.
fn does_not_repeat(text: impl AsRef<[u8]>, error: &Error) -> bool {
    let output = format!("{error}\n{error:?}\n{error:#?}\n{:?}\n{:?}", error.detail(), error.hint());
    let output = output.to_lowercase().into_bytes();
    let text = text.as_ref().to_ascii_lowercase();
    let digits = text.windows(8).filter(|run| run.iter().all(u8::is_ascii_hexdigit));
    digits.into_iter().all(|run| !output.windows(8).any(|window| window == run))
}

#[test]
fn the_check_for_leaked_digits_detects_them() {
    let leak = Error::OwnerCorrupt { path: "x".into(), reason: A[..8].to_uppercase() };
    assert!(!does_not_repeat(format!("1 {A}"), &leak));
}

/// Pieces of which nearly right files are made, and bytes of any kind.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[0-9a-fA-F]{64}".prop_map(String::into_bytes),
        1 => "[0-9a-fA-F]{8,70}".prop_map(String::into_bytes),
        4 => (0..70_000u32).prop_map(|id| id.to_string().into_bytes()),
        6 => Just(b" ".to_vec()),
        4 => Just(b"\n".to_vec()),
        1 => prop::sample::select(vec!["\r\n", "\t", "#", "\0"]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..10),
    ];
    let line = ("[1-9][0-9]{0,4} [0-9a-fA-F]{64}\n").prop_map(String::into_bytes);
    prop::collection::vec(prop_oneof![3 => piece, 1 => line], 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_text_causes_a_panic_or_appears_in_an_error(text in texts()) {
        match parse(&text) {
            Ok(ring) => prop_assert!(!ring.iter().any(|key| key.id() == 0)),
            Err(error) => prop_assert!(does_not_repeat(&text, &error), "{error:?}"),
        }
    }
}

// --- on disk

fn place(mode: u32, text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    (dir, path)
}

#[track_caller]
fn problem(path: &Path) -> Problem {
    let error = KeyRing::load(path).unwrap_err();
    let Error::KeyFile { path: found, line: None, problem, source } = &error else { panic!("{error:?}") };
    assert_eq!(found, path);
    assert_eq!(source.is_some(), matches!(problem, Problem::Io(_)));
    assert_eq!(error.path(), Some(path));
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.hint().is_some() || error.detail().is_some());
    *problem
}

#[test]
fn a_file_that_only_its_owner_can_read_is_accepted() {
    let (_dir, path) = place(0o600, format!("5 {A}\n"));
    let ring = KeyRing::load(&path).unwrap();
    assert_eq!(ring.newest().id(), 5);
    assert_eq!(ring.path(), path);
}

#[test]
fn a_file_that_others_could_read_is_refused() {
    for mode in [0o640, 0o644, 0o604, 0o620, 0o610, 0o601] {
        let (_dir, path) = place(mode, format!("5 {A}\n"));
        assert_eq!(problem(&path), Problem::Accessible, "{mode:o}");
    }
}

#[test]
fn access_is_checked_as_for_the_servers_private_key() {
    let (us, root, them) = (26, 0, 1000);
    for (owner, user, mode, expected) in [
        (us, us, 0o100600, Ok(())),
        (us, us, 0o100400, Ok(())),
        (us, us, 0o100640, Err(Problem::Accessible)),
        (us, us, 0o100604, Err(Problem::Accessible)),
        (root, us, 0o100600, Ok(())),
        (root, us, 0o100640, Ok(())),
        (root, us, 0o100440, Ok(())),
        (root, us, 0o100660, Err(Problem::Accessible)),
        (root, us, 0o100650, Err(Problem::Accessible)),
        (root, us, 0o100644, Err(Problem::Accessible)),
        (root, root, 0o100640, Err(Problem::Accessible)),
        (them, us, 0o100600, Err(Problem::WrongOwner)),
        (them, us, 0o100400, Err(Problem::WrongOwner)),
        (them, root, 0o100600, Err(Problem::WrongOwner)),
    ] {
        assert_eq!(check_access(owner, user, mode), expected, "{owner} {user} {mode:o}");
    }
}

#[test]
fn a_missing_file_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    assert_eq!(problem(&path), Problem::Io("open"));
    assert_eq!(
        KeyRing::load(&path).unwrap_err().to_string(),
        format!("could not open key file \"{}\": No such file or directory", path.display())
    );
    let (_dir, file) = place(0o600, "");
    assert_eq!(problem(&file.join("below")), Problem::Io("open"));
}

#[test]
fn a_pipe_or_directory_is_refused_without_blocking() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(problem(dir.path()), Problem::NotRegular);
    // no process writes to it: without O_NONBLOCK this would wait for ever
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(problem(&pipe), Problem::NotRegular);
    assert_eq!(problem(Path::new("/dev/null")), Problem::NotRegular);
}

#[test]
fn a_link_is_followed_and_its_target_judged() {
    let (dir, path) = place(0o600, format!("5 {A}\n"));
    let link = dir.path().join("link");
    symlink("keys", &link).unwrap();
    assert_eq!(KeyRing::load(&link).unwrap().newest().id(), 5);
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(problem(&link), Problem::Accessible);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(problem(&link), Problem::Io("open"));
}

#[test]
fn a_file_has_at_most_a_mebibyte() {
    let mut text = format!("5 {A}\n#").into_bytes();
    text.resize(MAX_BYTES, b'x');
    let (_dir, path) = place(0o600, &text);
    assert_eq!(KeyRing::load(&path).unwrap().newest().id(), 5);
    text.push(b'x');
    let (_dir, path) = place(0o600, &text);
    assert_eq!(problem(&path), Problem::TooLarge);
}

#[test]
fn an_error_in_a_line_names_the_file_that_was_read() {
    let (_dir, path) = place(0o600, format!("5 {A}\n6 {A}\n"));
    let error = KeyRing::load(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("invalid entry in key file \"{}\" line 2: duplicate key", path.display())
    );
    assert_eq!(error.detail().unwrap(), "Line 1 has the same key under another key id.");
}
