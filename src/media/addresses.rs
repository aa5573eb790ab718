//! Which of this machine's addresses media uses.

use std::net::IpAddr;

/// The addresses that media sockets are bound to: `chosen`, or, if it is empty, those of every
/// interface but loopback, or of loopback if there is no other.
pub fn local(chosen: &[IpAddr]) -> Vec<IpAddr> {
    if !chosen.is_empty() {
        return chosen.to_vec();
    }
    let all: Vec<IpAddr> = if_addrs::get_if_addrs()
        .inspect_err(|error| tracing::warn!("cannot list network interfaces: {error}"))
        .unwrap_or_default()
        .iter()
        .filter(|interface| !interface.is_link_local())
        .map(if_addrs::Interface::ip)
        .collect();
    let (loopback, others): (Vec<IpAddr>, Vec<IpAddr>) = all.into_iter().partition(IpAddr::is_loopback);
    if others.is_empty() { loopback } else { others }
}
