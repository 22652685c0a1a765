//! What arrives on the cluster port: everything that nodes say to each other, read in every way.
//!
//! Not here: what correct input means (the parsers' own tests).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| headwater_cluster::control::read_as_everything(data));
