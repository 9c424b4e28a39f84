//! Memory for keys. That it is overwritten cannot be seen from outside once it is given back; what the kernel was
//! asked for can.

use rbytea_store::crypt::secret::Secret;

/// The flags that the kernel shows for the mapping with this address.
fn vm_flags(address: usize) -> Vec<String> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|word| word.split_once('-'));
        let number = |digits: &str| usize::from_str_radix(digits, 16).ok();
        if let Some((from, to)) = range.and_then(|(from, to)| Some((number(from)?, number(to)?))) {
            inside = (from..to).contains(&address);
        } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
            return flags.split_whitespace().map(Into::into).collect();
        }
    }
    panic!("no mapping has {address:#x}");
}

fn not_dumped(address: usize) -> bool {
    vm_flags(address).iter().any(|flag| flag == "dd")
}

#[test]
fn no_core_dump_has_any_page_of_a_secret() {
    let bytes = [7; 10_000];
    let secret = Secret::new(&bytes);
    let first = secret.bytes().as_ptr() as usize;
    assert!(not_dumped(first));
    assert!(not_dumped(first + bytes.len() - 1));
    assert!(!not_dumped(bytes.as_ptr() as usize), "an ordinary page is in core dumps");
}

#[test]
fn secrets_share_no_page() {
    let (one, other) = (Secret::new(b"one"), Secret::new(b"other"));
    let page = rustix::param::page_size();
    let pages = [&one, &other].map(|secret| secret.bytes().as_ptr() as usize / page);
    assert_ne!(pages[0], pages[1]);
    assert_eq!(one.bytes().as_ptr() as usize % page, 0);
}

#[test]
fn a_secret_of_any_length_keeps_its_bytes() {
    let page = rustix::param::page_size();
    for len in [0, 1, 32, page - 1, page, page + 1, 3 * page] {
        let bytes: Vec<_> = (0..len).map(|i| (i % 251) as u8).collect();
        assert_eq!(Secret::new(&bytes).bytes(), bytes);
    }
}

#[test]
fn a_secret_can_be_read_in_other_threads() {
    let secret = Secret::new(b"shared");
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(secret.bytes(), b"shared"));
    });
}

#[test]
fn debug_shows_nothing() {
    assert_eq!(format!("{:?}", Secret::new(b"a secret")), "Secret(..)");
}
