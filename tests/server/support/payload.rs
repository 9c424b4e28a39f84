//! A payload as a parameter and as a result in binary format: rbytea sends and receives what bytea does.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// Bytes for a column of type rbytea or bytea.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

fn takes_bytes(ty: &Type) -> bool {
    *ty == Type::BYTEA || ty.name() == "rbytea"
}

impl ToSql for Payload {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        takes_bytes(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Payload {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(ty: &Type) -> bool {
        takes_bytes(ty)
    }
}
