//! Keys encrypted in the form of PEM's first days (RFC 1421 §4.6, with OpenSSL's way from password to key).

use aes::{Aes128, Aes192, Aes256};
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use data_encoding::HEXUPPER_PERMISSIVE;
use des::TdesEde3;
use md5::{Digest, Md5};

use super::pem::Block;

/// The plain bytes of a block; nothing where the password is wrong or the cipher is not one of the usual.
pub fn decrypt(block: &Block, password: &[u8]) -> Option<Vec<u8>> {
    let info = block.headers.iter().find(|(name, _)| name == "DEK-Info").map(|(_, value)| value.as_str())?;
    let (cipher, iv) = info.split_once(',')?;
    let iv = HEXUPPER_PERMISSIVE.decode(iv.trim().as_bytes()).ok()?;
    match cipher.trim() {
        "AES-128-CBC" => open::<Aes128>(&block.der, password, &iv, 16),
        "AES-192-CBC" => open::<Aes192>(&block.der, password, &iv, 24),
        "AES-256-CBC" => open::<Aes256>(&block.der, password, &iv, 32),
        "DES-EDE3-CBC" => open::<TdesEde3>(&block.der, password, &iv, 24),
        _ => None,
    }
}

fn open<C: BlockCipherDecrypt + KeyInit>(sealed: &[u8], password: &[u8], iv: &[u8], size: usize) -> Option<Vec<u8>> {
    let key = derive(password, iv.get(..8)?, size);
    let cipher = Decryptor::<C>::new_from_slices(&key, iv).ok()?;
    cipher.decrypt_padded_vec::<Pkcs7>(sealed).ok()
}

/// OpenSSL's `EVP_BytesToKey` with MD5, once.
fn derive(password: &[u8], salt: &[u8], size: usize) -> Vec<u8> {
    let (mut key, mut last): (Vec<u8>, Vec<u8>) = Default::default();
    while key.len() < size {
        let mut hash = Md5::new();
        [&last, password, salt].into_iter().for_each(|part| hash.update(part));
        last = hash.finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(size);
    key
}

#[cfg(test)]
mod tests {
    use super::super::pem;
    use super::*;

    #[test]
    fn the_password_opens_it() {
        // Made by `openssl ec -aes128` of a key that was made for it.
        let text = include_bytes!("../../../fixtures/certs/legacy.key");
        let block = pem::blocks(text).unwrap().remove(0);
        let plain = decrypt(&block, b"secret").unwrap();
        assert_eq!(pem::element(&plain).map(|(tag, _, rest)| (tag, rest.len())), Some((0x30, 0)));
        assert!(decrypt(&block, b"wrong").is_none_or(|bytes| pem::element(&bytes).is_none()));
    }
}
