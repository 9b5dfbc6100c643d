//! Where a node can be reached.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// `host:port`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

/// Longest host name that DNS knows, with a port.
const ADDRESS_BYTES_MAX: usize = 260;

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no address: host:port is one, such as 10.0.0.1:7400 or [fd00::1]:7400")]
pub struct AddressError(String);

impl Address {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good_host = match bare {
            Some(v6) => v6.parse::<core::net::Ipv6Addr>().is_ok(),
            None => {
                let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                !host.is_empty() && host.chars().all(letter)
            }
        };
        let good_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        if text.len() > ADDRESS_BYTES_MAX || !good_host || !good_port {
            return Err(bad());
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_and_port_are_an_address() {
        for good in ["web1:7400", "10.0.0.1:1", "[::1]:7400", "a-b.example:65535"] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in ["", "web1", ":7400", "web1:0", "web1:99999", "a b:1", "[x]:1", "::1:7400"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
