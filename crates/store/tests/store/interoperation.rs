//! With the master key, a payload's uuid and length, and OpenSSL with its GOST engine, a payload's file can be read
//! without rbytea. On Debian that takes the packages `openssl` and `libengine-gost-openssl`.

use crate::encrypted::sample;
use crate::support::{Bed, MASTER, OsBed, commit_encrypted, digits, hex, live};
use rbytea_store::BUFFER;
use rbytea_store::crypt::keys::kdf;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs `openssl` on some input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run openssl ({e}); on Debian: apt-get install openssl"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // EPIPE: when openssl ends early, the reason is on stderr
    let _ = writer.join().unwrap();
    output
}

/// What `openssl` makes of some input with the engine's help.
fn openssl(command: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let engine = run(&["engine", "gost"], b"");
    assert!(
        engine.status.success(),
        "OpenSSL has no GOST engine; on Debian: apt-get install libengine-gost-openssl\n{}",
        String::from_utf8_lossy(&engine.stderr)
    );
    let output = run(&[&[command, "-engine", "gost"], arguments].concat(), input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {command} {arguments:?}: {stderr}");
    output.stdout
}

fn counter_mode(direction: &str, key: &[u8], input: &[u8]) -> Vec<u8> {
    let arguments = [direction, "-kuznyechik-ctr", "-K", &digits(key), "-iv", "0000000000000000"];
    openssl("enc", &arguments, input)
}

/// KDF_GOSTR3411_2012_256, by OpenSSL's HMAC.
fn derived(label: &[u8], seed: &[u8]) -> Vec<u8> {
    let message = [&[1], label, &[0], seed, &[1, 0]].concat();
    let key = format!("hexkey:{}", digits(&MASTER));
    openssl("dgst", &["-md_gost12_256", "-mac", "HMAC", "-macopt", &key, "-binary"], &message)
}

#[test]
fn openssl_reproduces_the_example_of_the_standard() {
    // GOST R 34.13-2015, A.1.2
    let key = "8899aabbccddeeff0011223344556677fedcba98765432100123456789abcdef";
    let plaintext = hex("1122334455667700ffeeddccbbaa9988 00112233445566778899aabbcceeff0a");
    let arguments = ["-e", "-kuznyechik-ctr", "-K", key, "-iv", "1234567890abcef0"];
    let expected = hex("f195d8bec10ed1dbd57b5fa240bda1b8 85eee733f6a13e5df33ce4b33c45dee4");
    assert_eq!(openssl("enc", &arguments, &plaintext), expected);
}

#[test]
fn openssl_decrypts_a_payload_file() {
    let bed = OsBed::new();
    let store = bed.store();
    for len in [0, 1, 15, 16, 17, 1000, BUFFER - 1, BUFFER, BUFFER + 5] {
        let plaintext = sample(len);
        let payload = commit_encrypted(&store, 1, &plaintext);
        let file = bed.dir.path().join(live(&store, &payload));
        let key = kdf(&MASTER, b"rbytea payload", payload.id.uuid.as_bytes());
        let mut decrypted = counter_mode("-d", key.as_slice(), &std::fs::read(&file).unwrap());
        assert_eq!(decrypted.len() as u64, payload.len_full());
        let padding = decrypted.split_off(len);
        assert!(decrypted == plaintext, "{len} bytes");
        assert!(padding.iter().all(|byte| *byte == 0), "{padding:?}");
    }
}

#[test]
fn openssl_decrypts_a_payload_from_the_master_key() {
    let bed = OsBed::new();
    let payload = commit_encrypted(&bed.store(), 1, b"worth keeping");
    let key = derived(b"rbytea payload", payload.id.uuid.as_bytes());
    let file = bed.dir.path().join(live(&bed.store(), &payload));
    let name = file.file_name().and_then(|name| name.to_str()).unwrap();
    assert!(name.ends_with(&payload.id.uuid.to_string()), "the uuid is in the name of the file: {name}");
    let decrypted = counter_mode("-d", &key, &std::fs::read(&file).unwrap());
    assert_eq!(decrypted, b"worth keeping\0\0\0");
}

#[test]
fn openssl_writes_a_file_that_the_store_reads() {
    let bed = OsBed::new();
    let store = bed.store();
    let payload = commit_encrypted(&store, 1, b"worth keeping");
    let key = derived(b"rbytea payload", payload.id.uuid.as_bytes());
    let file = bed.dir.path().join(live(&store, &payload));
    std::fs::write(&file, counter_mode("-e", &key, b"worth keeping\0\0\0")).unwrap();
    assert_eq!(crate::support::read(&store, &payload).unwrap(), b"worth keeping");
}

#[test]
fn openssl_derives_the_same_keys_and_fingerprints() {
    for seed in [&b""[..], b"x", &[0xff; 16]] {
        assert_eq!(derived(b"any label", seed), kdf(&MASTER, b"any label", seed).as_slice());
    }
    let hash = openssl("dgst", &["-md_gost12_256", "-binary"], &derived(b"rbytea check", b""));
    assert_eq!(crate::support::KEYS.newest().fingerprint(), hash[..8]);
}
