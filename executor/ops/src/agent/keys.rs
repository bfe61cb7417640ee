//! Private keys from files, and the two answers of an agent that has them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use num_bigint::BigUint;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
use ssh_key::{Mpint, PrivateKey};

use super::{LIST, SIGN};

/// `SSH_AGENT_IDENTITIES_ANSWER` and `SSH_AGENT_SIGN_RESPONSE`.
const LISTED: u8 = 12;
const SIGNED: u8 = 14;
/// `SSH_AGENT_RSA_SHA2_256` and `SSH_AGENT_RSA_SHA2_512`.
const SHA_256: u32 = 2;
const SHA_512: u32 = 4;
/// No key is longer.
const LONGEST: u64 = 1 << 20;

/// Why a file gives no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot read the key `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is the half that everybody may have.
    #[error("`{}` is a public key, the private one is needed", path.display())]
    Public {
        /// Which.
        path: PathBuf,
    },
    /// A key of the form that OpenSSH had before, or that other programs have.
    #[error("`{}` is no private key in OpenSSH's form", path.display())]
    Form {
        /// Which.
        path: PathBuf,
    },
    /// It begins like a key, and is none.
    #[error("the key `{}` is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// It has a passphrase.
    #[error("the key `{}` has a passphrase, and rbuild asks for none", path.display())]
    Encrypted {
        /// Which.
        path: PathBuf,
    },
    /// Nobody signs with such a key here.
    #[error("the key `{}` is of the kind {kind}: rbuild signs with ed25519, with ecdsa of 256 or 384 bits, and with rsa of 2048 to 4096", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: String,
    },
}

/// Private keys. They are never shown.
#[derive(Clone)]
pub struct Keys(Arc<[Key]>);

struct Key {
    /// The public key, as it stands in messages.
    blob: Vec<u8>,
    comment: String,
    private: Private,
}

enum Private {
    Ed25519(Ed25519KeyPair),
    /// With its name in messages.
    Ecdsa(&'static str, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Keys {
    /// Reads one key from each file.
    ///
    /// # Errors
    /// With the first that gives none.
    pub fn read(paths: &[PathBuf]) -> Result<Self, KeyError> {
        let keys = paths.iter().map(|path| Key::read(path));
        Ok(Self(keys.collect::<Result<_, _>>()?))
    }

    /// The answer to a request to list or to sign. `None`: it cannot be done.
    pub(super) fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        let (kind, mut rest) = request.split_first()?;
        match *kind {
            LIST => self.list(),
            SIGN => {
                let (blob, data) = (string(&mut rest)?, string(&mut rest)?);
                let flags = u32::from_be_bytes(*rest.first_chunk()?);
                let key = self.0.iter().find(|key| key.blob == blob)?;
                let mut answer = vec![SIGNED];
                append(&mut answer, &key.private.sign(data, flags)?)?;
                Some(answer)
            }
            _ => None,
        }
    }

    fn list(&self) -> Option<Vec<u8>> {
        let mut answer = vec![LISTED];
        answer.extend(u32::try_from(self.0.len()).ok()?.to_be_bytes());
        for key in &*self.0 {
            append(&mut answer, &key.blob)?;
            append(&mut answer, key.comment.as_bytes())?;
        }
        Some(answer)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comments = self.0.iter().map(|key| &key.comment);
        f.debug_list().entries(comments).finish()
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        let blobs = |keys: &Self| keys.0.iter().map(|it| it.blob.clone()).collect::<Vec<_>>();
        blobs(self) == blobs(other)
    }
}

impl Eq for Keys {}

impl Key {
    fn read(path: &Path) -> Result<Self, KeyError> {
        let of = |make: fn(PathBuf) -> KeyError| make(path.to_owned());
        let text = read(path).map_err(|source| KeyError::Read {
            path: path.to_owned(),
            source,
        })?;
        if !text.trim_start().starts_with("-----BEGIN OPENSSH ") {
            return Err(match ssh_key::PublicKey::from_openssh(&text) {
                Ok(_) => of(|path| KeyError::Public { path }),
                Err(_) => of(|path| KeyError::Form { path }),
            });
        }
        let key = PrivateKey::from_openssh(text.trim());
        let key = key.map_err(|_| of(|path| KeyError::Damaged { path }))?;
        if key.is_encrypted() {
            return Err(of(|path| KeyError::Encrypted { path }));
        }
        let blob = key.public_key().to_bytes();
        let comment = match key.comment() {
            "" => path.display().to_string(),
            comment => comment.to_owned(),
        };
        Ok(Self {
            blob: blob.map_err(|_| of(|path| KeyError::Damaged { path }))?,
            comment,
            private: Private::of(&key).ok_or_else(|| KeyError::Kind {
                path: path.to_owned(),
                kind: kind(&key),
            })?,
        })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

impl Private {
    /// What there is to sign with; `None` if it is of a kind that nobody signs with here.
    fn of(key: &PrivateKey) -> Option<Self> {
        match key.key_data() {
            KeypairData::Ed25519(key) => ed25519(key).map(Self::Ed25519),
            KeypairData::Ecdsa(key) => ecdsa(key),
            KeypairData::Rsa(key) => rsa(key).map(Self::Rsa),
            _ => None,
        }
    }

    /// The signature as it stands in messages: the name of its kind, and its bytes.
    fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let (name, bytes) = match self {
            Self::Ed25519(key) => ("ssh-ed25519", key.sign(data).as_ref().to_vec()),
            Self::Ecdsa(name, key) => {
                let signature = key.sign(&SystemRandom::new(), data).ok()?;
                (*name, two_numbers(signature.as_ref())?)
            }
            Self::Rsa(key) => {
                let (name, padding): (_, &dyn RsaEncoding) = match flags {
                    it if it & SHA_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    it if it & SHA_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    // SHA-1, which nobody should believe.
                    _ => return None,
                };
                let mut bytes = vec![0; key.public().modulus_len()];
                key.sign(padding, &SystemRandom::new(), data, &mut bytes)
                    .ok()?;
                (name, bytes)
            }
        };
        let mut signature = Vec::new();
        append(&mut signature, name.as_bytes())?;
        append(&mut signature, &bytes)?;
        Some(signature)
    }
}

/// A signature of an elliptic curve: its halves are two numbers.
fn two_numbers(halves: &[u8]) -> Option<Vec<u8>> {
    let (one, other) = halves.split_at_checked(halves.len() / 2)?;
    let mut numbers = Vec::new();
    for half in [one, other] {
        append(
            &mut numbers,
            Mpint::from_positive_bytes(half).ok()?.as_bytes(),
        )?;
    }
    Some(numbers)
}

fn ed25519(key: &Ed25519Keypair) -> Option<Ed25519KeyPair> {
    let public = key.public.as_ref();
    Ed25519KeyPair::from_seed_and_public_key(key.private.as_ref(), public).ok()
}

fn ecdsa(key: &EcdsaKeypair) -> Option<Private> {
    let (name, kind) = match key {
        EcdsaKeypair::NistP256 { .. } => ("ecdsa-sha2-nistp256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        EcdsaKeypair::NistP384 { .. } => ("ecdsa-sha2-nistp384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        EcdsaKeypair::NistP521 { .. } => return None,
    };
    let (private, public) = (key.private_key_bytes(), key.public_key_bytes());
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(kind, private, public, &random);
    Some(Private::Ecdsa(name, pair.ok()?))
}

/// The key with what of it only saves time, and which files of OpenSSH leave out.
fn rsa(key: &RsaKeypair) -> Option<RsaKeyPair> {
    let (public, private) = (&key.public, &key.private);
    let below = |prime: &Mpint| {
        let prime = BigUint::from_bytes_be(prime.as_positive_bytes()?);
        let one = BigUint::from(1_u8);
        let d = BigUint::from_bytes_be(private.d.as_positive_bytes()?);
        (prime > one).then(|| (d % (prime - one)).to_bytes_be())
    };
    let (d_below_p, d_below_q) = (below(&private.p)?, below(&private.q)?);
    let components = KeyPairComponents {
        public_key: PublicKeyComponents {
            n: public.n.as_positive_bytes()?,
            e: public.e.as_positive_bytes()?,
        },
        d: private.d.as_positive_bytes()?,
        p: private.p.as_positive_bytes()?,
        q: private.q.as_positive_bytes()?,
        dP: &d_below_p[..],
        dQ: &d_below_q[..],
        qInv: private.iqmp.as_positive_bytes()?,
    };
    RsaKeyPair::from_components(&components).ok()
}

/// The kind of a key, for people.
fn kind(key: &PrivateKey) -> String {
    match key.key_data() {
        KeypairData::Rsa(rsa) => {
            let modulus = rsa.public.n.as_positive_bytes().unwrap_or_default();
            format!("rsa of {} bits", BigUint::from_bytes_be(modulus).bits())
        }
        _ => key.algorithm().to_string(),
    }
}

/// Takes the next string of a message.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(string)
}

fn append(message: &mut Vec<u8>, string: &[u8]) -> Option<()> {
    message.extend(u32::try_from(string.len()).ok()?.to_be_bytes());
    message.extend(string);
    Some(())
}
