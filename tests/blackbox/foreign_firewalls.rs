//! Networks among the firewalls of others, with packets: what lets a network's packets through is left alone, what drops
//! them is named by table and chain, and what the daemon advises is enough.

use std::process::Command;
use std::time::Duration;

use crate::harness::container::Container;
use crate::harness::{Lab, eventually, program, run};
use crate::network_traffic::{DEFAULT, FAR, LONG, lab, member, nft, pings, reaches, tear_down, up};

/// What firewalld 1.3 has in the kernel for an uplink in zone `public`, as far as packets to and from guests come by.
/// `MORE_IN` and `MORE_FWD` are where it puts other zones.
const FIREWALLD: &str = "
table inet firewalld {
    chain mangle_PREROUTING {
        type filter hook prerouting priority mangle + 10; policy accept;
        jump mangle_PREROUTING_POLICIES
    }
    chain mangle_PREROUTING_POLICIES {
        iifname \"uplink\" return
    }
    chain nat_POSTROUTING {
        type nat hook postrouting priority srcnat + 10; policy accept;
        jump nat_POST_public
    }
    chain nat_POST_public {
    }
    chain filter_PREROUTING {
        type filter hook prerouting priority filter + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state invalid drop
        jump filter_INPUT_POLICIES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state invalid drop
        ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 addr-unreachable
        jump filter_FORWARD_POLICIES
        reject with icmpx admin-prohibited
    }
    chain filter_OUTPUT {
        type filter hook output priority filter + 10; policy accept;
        ct state { established, related } accept
        oifname \"lo\" accept
        jump filter_OUTPUT_POLICIES
    }
    chain filter_OUTPUT_POLICIES {
        oifname \"uplink\" return
    }
    chain filter_IN_public {
        tcp dport 22 accept
        ip6 daddr fe80::/64 udp dport 546 accept
    }
    chain filter_FWD_public {
    }
    chain filter_IN_trusted {
        accept
    }
    chain filter_FWD_trusted {
        accept
    }
    chain filter_INPUT_POLICIES {
        MORE_IN
        iifname \"uplink\" jump filter_IN_public
        iifname \"uplink\" reject with icmpx admin-prohibited
        jump filter_IN_public
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_POLICIES {
        MORE_FWD
        iifname \"uplink\" oifname \"uplink\" jump filter_FWD_public
        iifname \"uplink\" reject with icmpx admin-prohibited
        jump filter_FWD_public
        reject with icmpx admin-prohibited
    }
}
";

/// firewalld's rules, after `firewall-cmd --zone=trusted --change-interface=virbr7` or before.
fn firewalld(trusts: bool) -> String {
    let [input, forward] = match trusts {
        true => [
            "iifname \"virbr7\" jump filter_IN_trusted",
            "iifname \"virbr7\" jump filter_FWD_trusted\niifname \"uplink\" oifname \"virbr7\" jump filter_FWD_public",
        ],
        false => ["", ""],
    };
    FIREWALLD.replace("MORE_IN", input).replace("MORE_FWD", forward)
}

/// Somebody's own rules: everything that is not asked for is dropped.
const STRICT: &str = "
table inet strict {
    chain gate {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"eth7\" oifname \"eth8\" accept
    }
}
";

/// The last thing the daemon said of this chain since byte `from` of its log.
fn said(lab: &Lab, from: usize, chain: &str) -> String {
    eventually(&format!("a word about {chain}"), LONG, || {
        let log = std::fs::read_to_string(lab.log()).unwrap();
        log[from..].lines().rfind(|line| line.contains(chain)).map(str::to_string)
    })
}

fn log_length(lab: &Lab) -> usize {
    std::fs::read(lab.log()).unwrap().len()
}

/// Runs the nft commands of an advice.
fn follow(advice: &str) {
    let commands: Vec<&str> = advice.split('\'').filter(|part| part.starts_with("nft ")).collect();
    assert_eq!(commands.len(), 2, "{advice}");
    for command in commands {
        let words = command.split_whitespace().skip(1);
        let out = run(Command::new(program("nft").unwrap()).args(words), Duration::from_secs(60));
        assert!(out.success(), "{command}: {out:?}");
    }
}

/// A guest's second life pings with the numbers of its first, which the kernel may still take for established.
fn is_cut_off(lab: &Lab, guest: &Container) {
    eventually("a new packet to be dropped", LONG, || (!pings(lab, guest, FAR)).then_some(()));
}

#[test]
fn a_foreign_drop_is_named_and_what_is_advised_is_enough() {
    let Some((mut lab, _far)) = lab(&[DEFAULT], "") else { return };
    lab.start();
    let guest = member(&lab, 1, "default");
    up(&lab, &guest);
    reaches(&lab, &guest, FAR);

    // Loaded while the network runs.
    let at = log_length(&lab);
    nft(STRICT);
    let line = said(&lab, at, "chain 'gate'");
    assert!(
        line.contains("table 'inet strict' chain 'gate' (hook forward, policy drop) drops packets of bridge 'virbr7'"),
        "{line}"
    );
    is_cut_off(&lab, &guest);
    follow(&line);
    reaches(&lab, &guest, FAR);
    nft("delete table inet strict");
    reaches(&lab, &guest, FAR);

    let at = log_length(&lab);
    nft(&firewalld(false));
    for (chain, hook) in [("filter_FORWARD", "forward"), ("filter_INPUT", "input")] {
        let line = said(&lab, at, &format!("chain '{chain}'"));
        let words = format!("table 'inet firewalld' chain '{chain}' (hook {hook}, ends with reject) drops packets");
        assert!(line.contains(&words), "{line}");
        assert!(line.contains("'firewall-cmd --zone=trusted --change-interface=virbr7' lets it through"), "{line}");
    }
    is_cut_off(&lab, &guest);
    nft(&format!("delete table inet firewalld\n{}", firewalld(true)));
    reaches(&lab, &guest, FAR);
    lab.ok(&["destroy", &guest.name]);
    lab.ok(&["net-destroy", "default"]);

    // There before the network: it starts, and says what is in its way.
    nft("delete table inet firewalld");
    nft(STRICT);
    let at = log_length(&lab);
    // Of the host itself nothing is dropped: the guest has its lease.
    up(&lab, &guest);
    let line = said(&lab, at, "chain 'gate'");
    is_cut_off(&lab, &guest);
    follow(&line);
    reaches(&lab, &guest, FAR);
    lab.ok(&["destroy", &guest.name]);
    lab.ok(&["net-destroy", "default"]);

    // Who lets the bridge through beforehand hears nothing.
    nft(&format!("delete table inet strict\n{}", firewalld(true)));
    let at = log_length(&lab);
    up(&lab, &guest);
    reaches(&lab, &guest, FAR);
    let log = std::fs::read_to_string(lab.log()).unwrap();
    assert!(!log[at..].contains("drops packets"), "{}", &log[at..]);
    lab.ok(&["destroy", &guest.name]);
    nft("delete table inet firewalld");
    tear_down(lab, &[DEFAULT]);
}
