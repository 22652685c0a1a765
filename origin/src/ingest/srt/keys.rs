//! The session key of an encrypted caller: unwrapped from its key material, used to check its
//! passphrase before anything else is done for it, and to encrypt what is sent to it.
//!
//! draft-sharabayko-srt-01 §3.2.2 (key material), §6 (encryption): AES-CTR, the key wrapped by
//! RFC 3394 under PBKDF2-HMAC-SHA1 of the passphrase.
//! Not here: decryption of what comes in (the library does it), AES-GCM, AES-192.

use aes_kw::{KeyInit, KwAes128, KwAes256};
use ctr::cipher::{KeyIvInit, StreamCipher};
use thiserror::Error;

/// Fixed part of a key material message, before the wrapped keys: header and 16 bytes of salt.
const KM_FIXED_BYTES: usize = 32;
/// PBKDF2 rounds that SRT prescribes.
const KDF_ROUNDS: u32 = 2_048;

/// Why key material is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum KeyError {
    /// Not a key material message, or cut short.
    #[error("malformed key material")]
    Malformed,
    /// Another cipher or key length.
    #[error("AES-CTR with keys of 16 or 32 bytes (pbkeylen=16 or 32) is offered, nothing else")]
    Unsupported,
    /// The passphrases differ.
    #[error("wrong passphrase")]
    WrongSecret,
}

/// The key of one connection. Both directions use the same one.
#[derive(Clone)]
pub(super) struct SessionKey {
    key: Vec<u8>,
    salt: [u8; 16],
    /// The KK field of packets under this key: 1 even, 2 odd.
    flag: u8,
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKey").field("length", &self.key.len()).finish_non_exhaustive()
    }
}

impl SessionKey {
    /// Unwraps the key in `km`, which proves that the caller knows `passphrase`.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub(super) fn unwrap(passphrase: &[u8], km: &[u8]) -> Result<Self, KeyError> {
        let header: &[u8; 16] = km.first_chunk().ok_or(KeyError::Malformed)?;
        let [version, sign_high, sign_low, flags, .., salt_words, key_words] = *header;
        let (cipher, auth) = (header[8], header[9]);
        if (version, sign_high, sign_low) != (0x12, 0x20, 0x29) || !(1..=3).contains(&flags) {
            return Err(KeyError::Malformed);
        }
        let length = usize::from(key_words) * 4;
        if cipher != 2 || auth != 0 || salt_words != 4 || !matches!(length, 16 | 32) {
            return Err(KeyError::Unsupported);
        }
        let salt = km.get(16..KM_FIXED_BYTES).and_then(|salt| salt.try_into().ok());
        let salt: [u8; 16] = salt.ok_or(KeyError::Malformed)?;
        let wrapped = km.get(KM_FIXED_BYTES..).ok_or(KeyError::Malformed)?;
        let keys = if flags == 3 { 2 } else { 1 };
        if wrapped.len() != 8 + keys * length {
            return Err(KeyError::Malformed);
        }
        let mut plain = vec![0; keys * length];
        let opened = if length == 16 {
            let mut kek = [0; 16];
            pbkdf2::pbkdf2_hmac::<sha1::Sha1>(passphrase, &salt[8..], KDF_ROUNDS, &mut kek);
            KwAes128::new(&kek.into()).unwrap_key(wrapped, &mut plain).is_ok()
        } else {
            let mut kek = [0; 32];
            pbkdf2::pbkdf2_hmac::<sha1::Sha1>(passphrase, &salt[8..], KDF_ROUNDS, &mut kek);
            KwAes256::new(&kek.into()).unwrap_key(wrapped, &mut plain).is_ok()
        };
        if !opened {
            return Err(KeyError::WrongSecret);
        }
        // With two keys the even one comes first, and is the one in use at the start.
        plain.truncate(length);
        Ok(Self { key: plain, salt, flag: if flags == 2 { 2 } else { 1 } })
    }

    /// The key's length in bytes: 16 or 32.
    pub(super) fn length(&self) -> u8 {
        if self.key.len() == 16 { 16 } else { 32 }
    }

    /// The KK field of packets under this key.
    pub(super) fn flag(&self) -> u8 {
        self.flag
    }

    /// Encrypts (or decrypts) the payload of the packet numbered `sequence`, in place.
    pub(super) fn apply(&self, sequence: u32, payload: &mut [u8]) {
        let mut iv = self.salt;
        iv[14] = 0;
        iv[15] = 0;
        for (byte, number) in iv[10..14].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= number;
        }
        // The lengths fit by construction: one of the two is made.
        if let Ok(mut cipher) = ctr::Ctr128BE::<aes::Aes128>::new_from_slices(&self.key, &iv) {
            cipher.apply_keystream(payload);
        } else if let Ok(mut cipher) = ctr::Ctr128BE::<aes::Aes256>::new_from_slices(&self.key, &iv)
        {
            cipher.apply_keystream(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &[u8] = b"correct horse battery";

    fn material(length: u8, flags: u8) -> Vec<u8> {
        let salt: [u8; 16] = std::array::from_fn(|i| i as u8);
        let count = if flags == 3 { 2 } else { 1 };
        let plain: Vec<u8> = (0..length * count).collect();
        let mut wrapped = vec![0; plain.len() + 8];
        let mut kek = vec![0; usize::from(length)];
        pbkdf2::pbkdf2_hmac::<sha1::Sha1>(PASSPHRASE, &salt[8..], KDF_ROUNDS, &mut kek);
        match length {
            16 => KwAes128::new_from_slice(&kek).unwrap().wrap_key(&plain, &mut wrapped).unwrap(),
            _ => KwAes256::new_from_slice(&kek).unwrap().wrap_key(&plain, &mut wrapped).unwrap(),
        };
        let mut km = vec![0x12, 0x20, 0x29, flags, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 4, length / 4];
        km.extend_from_slice(&salt);
        km.extend_from_slice(&wrapped);
        km
    }

    #[test]
    fn both_key_lengths_open_with_the_passphrase_and_with_no_other() {
        for (length, flags, flag) in [(16, 1, 1), (32, 1, 1), (32, 2, 2), (16, 3, 1)] {
            let km = material(length, flags);
            let key = SessionKey::unwrap(PASSPHRASE, &km).unwrap();
            assert_eq!((key.length(), key.flag()), (length, flag));
            assert_eq!(key.key, (0..length).collect::<Vec<_>>());
            let wrong = SessionKey::unwrap(b"correct horse batterz", &km);
            assert_eq!(wrong.unwrap_err(), KeyError::WrongSecret);
        }
    }

    #[test]
    fn encryption_is_undone_by_itself_and_depends_on_the_number() {
        let key = SessionKey::unwrap(PASSPHRASE, &material(32, 1)).unwrap();
        let (mut first, mut second) = (*b"seven packets", *b"seven packets");
        key.apply(7, &mut first);
        key.apply(8, &mut second);
        assert_ne!(first, second);
        key.apply(7, &mut first);
        assert_eq!(&first, b"seven packets");
    }

    #[test]
    fn damaged_key_material_is_an_error() {
        let good = material(16, 1);
        for cut in 0..good.len() {
            assert!(SessionKey::unwrap(PASSPHRASE, &good[..cut]).is_err(), "{cut} bytes");
        }
        for (at, value, error) in [
            (0, 0, KeyError::Malformed),
            (3, 0, KeyError::Malformed),
            (3, 4, KeyError::Malformed),
            (8, 1, KeyError::Unsupported),
            (9, 1, KeyError::Unsupported),
            (14, 3, KeyError::Unsupported),
            (15, 6, KeyError::Unsupported),
            (15, 255, KeyError::Unsupported),
            (15, 8, KeyError::Malformed),
            (40, 0xff, KeyError::WrongSecret),
        ] {
            let mut km = good.clone();
            km[at] = value;
            assert_eq!(SessionKey::unwrap(PASSPHRASE, &km).unwrap_err(), error, "byte {at}");
        }
    }
}
