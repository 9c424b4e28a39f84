//! What the fuzz targets judge: for each kind of bytes that a store did not write itself, the store's answer against a
//! definition that is written down here a second time, in another way, and back again to the bytes.

pub mod judge;
