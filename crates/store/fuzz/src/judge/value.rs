//! The bytes of a value, against the layout in the architecture.

use arbitrary::Unstructured;
use uuid::Uuid;

use super::{near, take, take_id};
use rbytea_store::value::{EXTERNAL_LEN, Value, ValueError, decode, encode_external, hash, hash_extended};
use rbytea_store::{PayloadId, PayloadRef};

/// Any bytes as a value, then any reference as bytes.
pub fn value(bytes: &[u8]) {
    decoded(bytes);

    let mut rest = Unstructured::new(bytes);
    let key_id = u16::from_le_bytes(take(&mut rest));
    let payload = PayloadRef {
        key_id: (take::<1>(&mut rest)[0] & 1 == 1).then_some(key_id),
        id: take_id(&mut rest),
        len: u64::from_le_bytes(take(&mut rest)),
        checksum: u64::from_le_bytes(take(&mut rest)),
        digest: take(&mut rest),
    };
    let encoded = encode_external(&payload);
    assert_eq!(
        decode(&encoded),
        Ok(Value::External(payload)),
        "a reference is not read back as it was written"
    );
    decoded(&near(&encoded, &mut rest));
    let [cut] = take(&mut rest);
    decoded(&encoded[..usize::from(cut) % EXTERNAL_LEN]);
    decoded(&[&encoded[..], &[cut]].concat());
    let in_row = [&[1], &encoded[..]].concat();
    assert_eq!(
        decode(&in_row),
        Ok(Value::Inline(&encoded)),
        "a payload in the row was taken for a reference"
    );

    let len_full = u128::from(payload.len_full());
    let padding = len_full.wrapping_sub(payload.len.into());
    match payload.key_id {
        None => assert_eq!(padding, 0),
        Some(_) if payload.len > u64::MAX - 15 => assert_eq!(len_full, u64::MAX.into()),
        Some(_) => assert!(len_full % 16 == 0 && padding < 16, "{len_full} bytes for {}", payload.len),
    }
    let short = hash(&payload.digest);
    assert_eq!(
        hash_extended(&payload.digest, 0) as i32,
        short,
        "rows would be in another partition than looked for in"
    );
}

fn decoded(bytes: &[u8]) {
    let found = decode(bytes);
    assert_eq!(found, definition(bytes));
    match found {
        Ok(Value::External(payload)) => {
            assert_eq!(encode_external(&payload), bytes, "two forms of one reference")
        }
        Ok(Value::Inline(payload)) => assert_eq!(payload.len() + 1, bytes.len()),
        Err(_) => {}
    }
}

/// Little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number * 256 + u64::from(*byte))
}

fn definition(bytes: &[u8]) -> Result<Value<'_>, ValueError> {
    let Some(version) = bytes.first() else { return Err(ValueError::Empty) };
    if *version == 1 {
        return Ok(Value::Inline(&bytes[1..]));
    }
    if *version != 2 {
        return Err(ValueError::UnknownVersion(*version));
    }
    if bytes.len() != 1 + 1 + 2 + 2 + 8 + 8 + 16 + 8 + 32 {
        return Err(ValueError::WrongLength(bytes.len()));
    }
    let key = number(&bytes[2..4]) as u16;
    if bytes[1] > 1 {
        return Err(ValueError::UnknownFlags(bytes[1]));
    }
    if bytes[1] == 0 && key > 0 {
        return Err(ValueError::UnexpectedKey(key));
    }
    let store = number(&bytes[4..6]) as u16;
    if store > 0 {
        return Err(ValueError::UnknownStore(store));
    }
    Ok(Value::External(PayloadRef {
        key_id: if bytes[1] == 1 { Some(key) } else { None },
        len: number(&bytes[6..14]),
        id: PayloadId {
            birth: number(&bytes[14..22]),
            uuid: Uuid::from_slice(&bytes[22..38]).expect("16 bytes"),
        },
        checksum: number(&bytes[38..46]),
        digest: bytes[46..].try_into().expect("32 bytes"),
    }))
}
