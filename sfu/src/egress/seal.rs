//! SRTP and SRTCP protection of what leaves (RFC 3711, RFC 7714), in place, in the send buffer.
//!
//! One [`Sealer`] is all that is ever encrypted with a session's sending keys: a packet index is
//! used once, and what the engine would send under them is thrown away.
//! Not here: headers (`header`), numbers (`stream`), unsealing (the engine).

use str0m::crypto::dtls::SrtpProfile;
use str0m::crypto::{
    AeadAes128Gcm, AeadAes128GcmCipher, AeadAes256Gcm, AeadAes256GcmCipher, Aes128CmSha1_80,
    Aes128CmSha1_80Cipher, CryptoProvider, Sha1HmacProvider, SrtpProvider,
};

use super::keys::SrtpKeys;

/// Labels of the key derivation (RFC 3711 §4.3.2).
const LABELS_RTP: Labels = Labels { key: 0, authentication: 1, salt: 2 };
const LABELS_RTCP: Labels = Labels { key: 3, authentication: 4, salt: 5 };

/// Bytes of an RTCP packet that stay in the clear: its header and the sender's SSRC.
const RTCP_CLEAR: usize = 8;
/// The bit before an SRTCP index that says: encrypted (RFC 3711 §3.4).
const RTCP_ENCRYPTED: u32 = 1 << 31;
/// Length of the blocks that the counter mode's implementation may write.
const BLOCK: usize = 16;

struct Labels {
    key: u8,
    authentication: u8,
    salt: u8,
}

/// The keys do not have the length that their profile asks for, or the profile is unknown.
#[derive(Debug)]
pub(crate) struct BadKeys;

/// A cipher with its salt.
enum Cipher {
    Counter { salt: [u8; 14], hmac: [u8; 20], cipher: Box<dyn Aes128CmSha1_80Cipher> },
    Gcm128 { salt: [u8; 12], cipher: Box<dyn AeadAes128GcmCipher> },
    Gcm256 { salt: [u8; 12], cipher: Box<dyn AeadAes256GcmCipher> },
}

/// Encrypts and authenticates what one session sends.
pub(crate) struct Sealer {
    rtp: Cipher,
    rtcp: Cipher,
    sha1: &'static dyn Sha1HmacProvider,
    rtcp_index: u32,
}

impl Sealer {
    /// A sealer with the keys of our side.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub(crate) fn new(crypto: &CryptoProvider, keys: &SrtpKeys) -> Result<Self, BadKeys> {
        let master = Master::of(keys)?;
        let make = |labels: &Labels| master.cipher(crypto.srtp_provider, keys.profile, labels);
        let (rtp, rtcp) = (make(&LABELS_RTP)?, make(&LABELS_RTCP)?);
        Ok(Self { rtp, rtcp, sha1: crypto.sha1_hmac_provider, rtcp_index: 0 })
    }

    /// Bytes that sealing adds to an RTP packet.
    pub(crate) fn tag_bytes(&self) -> usize {
        self.rtp.tag_bytes()
    }

    /// Seals an RTP packet. `packet` begins with the finished header, which `header_bytes` counts;
    /// the sealed `payload` and the tag fill the rest exactly. `index` is the packet's sequence
    /// number, widened; each may be used once for an SSRC.
    pub(crate) fn rtp(
        &mut self,
        packet: &mut [u8],
        header_bytes: usize,
        payload: &[u8],
        ssrc: u32,
        index: u64,
    ) {
        let Some((header, body)) = packet.split_at_mut_checked(header_bytes) else { return };
        debug_assert_eq!(body.len(), payload.len() + self.rtp.tag_bytes());
        // RFC 3711 §3.3.1: the index is the roll-over counter and the sequence number.
        let (roc, sequence) = ((index >> 16) as u32, index as u16);
        let sealed = match &mut self.rtp {
            Cipher::Gcm128 { salt, cipher } => {
                let iv = AeadAes128Gcm::rtp_iv(*salt, ssrc, roc, sequence);
                cipher.encrypt(&iv, header, payload, body)
            }
            Cipher::Gcm256 { salt, cipher } => {
                let iv = AeadAes256Gcm::rtp_iv(*salt, ssrc, roc, sequence);
                cipher.encrypt(&iv, header, payload, body)
            }
            Cipher::Counter { salt, hmac, cipher } => {
                let iv = Aes128CmSha1_80::rtp_iv(*salt, ssrc, index);
                // The authentication's room takes what the cipher writes beyond the payload.
                let sealed = cipher.encrypt(&iv, payload, body);
                let end = header_bytes + payload.len();
                let sha1 = |key: &[u8], data: &[&[u8]]| self.sha1.sha1_hmac(key, data);
                Aes128CmSha1_80::rtp_hmac(sha1, hmac, packet, index, end);
                sealed
            }
        };
        debug_assert!(sealed.is_ok(), "a packet cannot be sealed: {sealed:?}");
        // The cipher copies before it seals: nothing may leave in the clear.
        if sealed.is_err() {
            packet.fill(0);
        }
    }

    /// Seals a compound RTCP packet; gives the datagram, which is empty if that cannot be done.
    pub(crate) fn rtcp(&mut self, plain: &[u8]) -> Vec<u8> {
        let Some((clear, rest)) = plain.split_first_chunk::<RTCP_CLEAR>() else {
            return Vec::new();
        };
        let [.., s0, s1, s2, s3] = *clear;
        let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
        self.rtcp_index = (self.rtcp_index + 1) & !RTCP_ENCRYPTED;
        let index = self.rtcp_index;
        let trailer = (index | RTCP_ENCRYPTED).to_be_bytes();
        let mut sealed = clear.to_vec();
        let mut body = vec![0; rest.len() + BLOCK];
        let result = match &mut self.rtcp {
            Cipher::Gcm128 { salt, cipher } => {
                let iv = AeadAes128Gcm::rtcp_iv(*salt, ssrc, index);
                cipher.encrypt(&iv, &[&clear[..], &trailer].concat(), rest, &mut body)
            }
            Cipher::Gcm256 { salt, cipher } => {
                let iv = AeadAes256Gcm::rtcp_iv(*salt, ssrc, index);
                cipher.encrypt(&iv, &[&clear[..], &trailer].concat(), rest, &mut body)
            }
            Cipher::Counter { salt, hmac, cipher } => {
                let iv = Aes128CmSha1_80::rtp_iv(*salt, ssrc, index.into());
                let result = cipher.encrypt(&iv, rest, &mut body);
                body.truncate(rest.len());
                body.extend_from_slice(&trailer);
                let tag = self.sha1.sha1_hmac(hmac, &[clear, &body]);
                body.extend_from_slice(tag.get(..Aes128CmSha1_80::HMAC_TAG_LEN).unwrap_or(&tag));
                sealed.append(&mut body);
                debug_assert!(result.is_ok(), "a report cannot be sealed: {result:?}");
                return if result.is_ok() { sealed } else { Vec::new() };
            }
        };
        debug_assert!(result.is_ok(), "a report cannot be sealed: {result:?}");
        if result.is_err() {
            return Vec::new();
        }
        sealed.append(&mut body);
        sealed.extend_from_slice(&trailer);
        sealed
    }
}

const _: () = assert!(AeadAes128Gcm::TAG_LEN == BLOCK && AeadAes256Gcm::TAG_LEN == BLOCK);

impl Cipher {
    fn tag_bytes(&self) -> usize {
        match self {
            Self::Counter { .. } => Aes128CmSha1_80::HMAC_TAG_LEN,
            Self::Gcm128 { .. } | Self::Gcm256 { .. } => AeadAes128Gcm::TAG_LEN,
        }
    }
}

/// One side's master key and salt.
struct Master<'a> {
    key: &'a [u8],
    salt: &'a [u8],
}

impl<'a> Master<'a> {
    /// Our side's share of the keying material.
    fn of(keys: &'a SrtpKeys) -> Result<Self, BadKeys> {
        let (key, salt) = match keys.profile {
            SrtpProfile::AES128_CM_SHA1_80 => (Aes128CmSha1_80::KEY_LEN, Aes128CmSha1_80::SALT_LEN),
            SrtpProfile::AEAD_AES_128_GCM => (AeadAes128Gcm::KEY_LEN, AeadAes128Gcm::SALT_LEN),
            SrtpProfile::AEAD_AES_256_GCM => (AeadAes256Gcm::KEY_LEN, AeadAes256Gcm::SALT_LEN),
            _ => return Err(BadKeys),
        };
        let (all_keys, salts) = keys.material.split_at_checked(2 * key).ok_or(BadKeys)?;
        if salts.len() != 2 * salt {
            return Err(BadKeys);
        }
        let side = usize::from(!keys.active);
        let share = |from: &'a [u8], length| from.chunks(length).nth(side).ok_or(BadKeys);
        Ok(Self { key: share(all_keys, key)?, salt: share(salts, salt)? })
    }

    fn cipher(
        &self,
        provider: &dyn SrtpProvider,
        profile: SrtpProfile,
        labels: &Labels,
    ) -> Result<Cipher, BadKeys> {
        Ok(match profile {
            SrtpProfile::AES128_CM_SHA1_80 => Cipher::Counter {
                salt: self.derive(provider, labels.salt),
                hmac: self.derive(provider, labels.authentication),
                cipher: provider
                    .aes_128_cm_sha1_80()
                    .create_cipher(self.derive(provider, labels.key), true),
            },
            SrtpProfile::AEAD_AES_128_GCM => Cipher::Gcm128 {
                salt: self.derive(provider, labels.salt),
                cipher: provider
                    .aead_aes_128_gcm()
                    .create_cipher(self.derive(provider, labels.key), true),
            },
            SrtpProfile::AEAD_AES_256_GCM => Cipher::Gcm256 {
                salt: self.derive(provider, labels.salt),
                cipher: provider
                    .aead_aes_256_gcm()
                    .create_cipher(self.derive(provider, labels.key), true),
            },
            _ => return Err(BadKeys),
        })
    }

    /// A session key or salt (RFC 3711 §4.3.1, with no key derivation rate): AES in counter mode
    /// over the salt with the label.
    fn derive<const N: usize>(&self, provider: &dyn SrtpProvider, label: u8) -> [u8; N] {
        let mut input = [0; BLOCK];
        for (to, from) in input.iter_mut().zip(self.salt) {
            *to = *from;
        }
        input[7] ^= label;
        let mut derived = [0; N];
        for (round, chunk) in derived.chunks_mut(BLOCK).enumerate() {
            // At most two rounds: no key here is longer than 32 bytes.
            let [.., high, low] = &mut input;
            (*high, *low) = (0, round as u8);
            // The implementation pads, which takes a second block.
            let mut output = [0; 2 * BLOCK];
            match self.key.len() {
                AeadAes256Gcm::KEY_LEN => {
                    provider.srtp_aes_256_ecb_round(self.key, &input, &mut output);
                }
                _ => provider.srtp_aes_128_ecb_round(self.key, &input, &mut output),
            }
            for (to, from) in chunk.iter_mut().zip(output) {
                *to = from;
            }
        }
        derived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::keys;

    /// RFC 3711 §B.3: the session keys that follow from a master key and salt.
    #[test]
    fn keys_are_derived_as_the_rfc_shows() {
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            digits
                .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
                .collect()
        };
        let (key, salt) =
            (hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6"));
        let master = Master { key: &key, salt: &salt };
        let provider = keys::provider().srtp_provider;
        let cipher: [u8; 16] = master.derive(provider, LABELS_RTP.key);
        assert_eq!(cipher[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        let salt: [u8; 14] = master.derive(provider, LABELS_RTP.salt);
        assert_eq!(salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        let hmac: [u8; 20] = master.derive(provider, LABELS_RTP.authentication);
        assert_eq!(hmac[..], hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn keying_material_of_a_wrong_length_is_refused() {
        for (profile, good) in [
            (SrtpProfile::AES128_CM_SHA1_80, 60),
            (SrtpProfile::AEAD_AES_128_GCM, 56),
            (SrtpProfile::AEAD_AES_256_GCM, 88),
        ] {
            for length in [0, good - 1, good, good + 1, 200] {
                let keys = SrtpKeys { profile, material: vec![1; length], active: false };
                assert_eq!(Sealer::new(&keys::provider(), &keys).is_ok(), length == good);
            }
        }
    }
}
