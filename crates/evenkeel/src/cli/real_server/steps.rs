//! Printed steps that make a machine a real server of mode `dr` or `tun`, by operating system.

use std::net::IpAddr;

use super::{Arguments, ServerMode, System};

pub fn steps(system: System, arguments: &Arguments) -> String {
    let mut text = String::new();
    for vip in &arguments.vip {
        text += &steps_for(system, arguments.mode, *vip);
    }
    text
}

fn steps_for(system: System, mode: ServerMode, vip: IpAddr) -> String {
    let v4 = vip.is_ipv4();
    let tun = match mode {
        ServerMode::Dr => "",
        ServerMode::Tun => {
            "Mode tun needs IP-in-IP as well, which this system has no simple way to open for any sender: use mode dr or nat.\n"
        }
    };
    let body = match (system, v4) {
        (System::Linux, _) => return for_linux(mode, vip),
        (System::Windows, true) => format!(
            "Windows Server, in PowerShell as Administrator (\"Ethernet\" is the real network card, \"loopback\" the new one):\n\
             1. Add the loopback adapter: Device Manager, Action, Add legacy hardware, Network adapters, Microsoft KM-TEST Loopback Adapter; then\n   \
             Rename-NetAdapter -InterfaceDescription \"Microsoft KM-TEST Loopback Adapter\" -NewName loopback\n\
             2. New-NetIPAddress -InterfaceAlias loopback -IPAddress {vip} -PrefixLength 32 -SkipAsSource $true\n\
             3. Set-NetIPInterface -InterfaceAlias loopback -InterfaceMetric 254\n\
             4. netsh interface ipv4 set interface \"Ethernet\" weakhostreceive=enabled\n\
             5. netsh interface ipv4 set interface \"loopback\" weakhostreceive=enabled\n\
             6. netsh interface ipv4 set interface \"loopback\" weakhostsend=enabled\n\
             7. Disable-NetAdapterBinding -Name loopback -ComponentID ms_msclient,ms_server   (no file sharing on the VIP)\n{}",
            more_for_windows("ipv4", vip)
        ),
        (System::Windows, false) => format!(
            "Windows Server, in PowerShell as Administrator (\"Ethernet\" is the real network card, \"loopback\" the Microsoft KM-TEST Loopback Adapter):\n\
             1. New-NetIPAddress -InterfaceAlias loopback -IPAddress {vip} -PrefixLength 128 -SkipAsSource $true\n\
             2. netsh interface ipv6 set interface \"Ethernet\" weakhostreceive=enabled\n\
             3. netsh interface ipv6 set interface \"loopback\" weakhostreceive=enabled weakhostsend=enabled dadtransmits=0\n{}",
            more_for_windows("ipv6", vip)
        ),
        (System::Solaris, true) => format!(
            "Solaris 11 (Solaris answers no ARP for addresses of lo0):\n\
             1. ipadm create-addr -T static -a {vip}/32 lo0/evenkeel\n\
             2. ipadm set-prop -p hostmodel=weak ipv4\n"
        ),
        (System::Solaris, false) => format!(
            "Solaris 11:\n1. ipadm create-addr -T static -a {vip}/128 lo0/evenkeel6\n2. ipadm set-prop -p hostmodel=weak ipv6\n"
        ),
        (System::Macos, true) => format!(
            "macOS (lost at reboot; a launchd job with the same command makes it last):\n1. sudo ifconfig lo0 alias {vip} netmask 255.255.255.255\n"
        ),
        (System::Macos, false) => format!("macOS:\n1. sudo ifconfig lo0 inet6 {vip} prefixlen 128 alias\n"),
        (System::Bsd, true) => format!(
            "FreeBSD:\n1. ifconfig lo0 alias {vip} netmask 255.255.255.255\n\
             2. sysrc ifconfig_lo0_alias0=\"inet {vip} netmask 255.255.255.255\"\n\
             OpenBSD: echo 'inet alias {vip} 255.255.255.255' >> /etc/hostname.lo0; sh /etc/netstart lo0\n\
             NetBSD: ifconfig lo0 alias {vip} netmask 255.255.255.255; the same line without \"ifconfig lo0\" goes into /etc/ifconfig.lo0\n"
        ),
        (System::Bsd, false) => format!(
            "FreeBSD:\n1. ifconfig lo0 inet6 {vip} prefixlen 128 alias\n2. sysrc ifconfig_lo0_ipv6=\"inet6 {vip} prefixlen 128\"\n"
        ),
    };
    format!(
        "{body}The server must listen on {vip} (or on every address), and its default route must lead to the clients, not to the load balancer.\n{tun}"
    )
}

/// What Windows needs beside addresses: who else balances, the firewall, the site, and a look at it all.
fn more_for_windows(family: &str, vip: IpAddr) -> String {
    let look = match vip.is_ipv4() {
        true => format!("arp -d {vip}, ping {vip}, arp -a"),
        false => format!(
            "ndisc6 {vip} INTERFACE (Linux), or ping {vip}, then netsh interface ipv6 show neighbors (Windows)"
        ),
    };
    let shown = if vip.is_ipv4() { vip.to_string() } else { format!("[{vip}]") };
    format!(
        "\
         Network Load Balancing must be off, it takes the same packets: Get-NlbClusterNode lists nothing, else Remove-NlbClusterNode -Force\n\
         Firewall, for each port of the service: New-NetFirewallRule -DisplayName \"Evenkeel {vip}\" -Direction Inbound -Protocol TCP -LocalPort 80 -Action Allow\n\
         IIS: the binding \"All Unassigned\" (*:80:) takes the VIP too; where a site is bound to the server's own address it needs one for the VIP:\n   \
         New-WebBinding -Name \"Default Web Site\" -Protocol http -IPAddress \"{shown}\" -Port 80; look: Get-WebBinding; netsh http show iplisten (empty, or with the VIP)\n\
         To verify:\n   \
         netsh interface {family} show interface \"Ethernet\"   shows: Weak Host Receives : enabled\n   \
         netsh interface {family} show interface \"loopback\"   shows: Weak Host Sends : enabled, Weak Host Receives : enabled\n   \
         Get-NetIPAddress -IPAddress {vip}   shows: AddressState Preferred, InterfaceAlias loopback\n   \
         from another machine of the network: {look}   shows the load balancer's MAC, never this server's\n"
    )
}

/// The same as `evenkeel real-server setup` does, by hand, lasting.
fn for_linux(mode: ServerMode, vip: IpAddr) -> String {
    let (whole, v4) = (evenkeel_model::host_prefix(vip), vip.is_ipv4());
    let arp = if v4 {
        "1. printf 'net.ipv4.conf.all.arp_ignore=1\\nnet.ipv4.conf.all.arp_announce=2\\n' > /etc/sysctl.d/60-vip.conf; sysctl -p /etc/sysctl.d/60-vip.conf   (before the address is there: nobody may hear of it)\n"
    } else {
        "1. nothing to set: an address of the loopback interface is in no neighbour advert\n"
    };
    let add = match v4 {
        true => format!("ip addr add {vip}/{whole} dev lo"),
        false => format!("ip -6 addr add {vip}/{whole} dev lo nodad"),
    };
    let opens = match (mode, v4) {
        (ServerMode::Dr, _) => "",
        (ServerMode::Tun, true) => {
            "   modprobe ipip; ip link set tunl0 up; sysctl -w net.ipv4.conf.tunl0.rp_filter=0 net.ipv4.conf.all.rp_filter=0   (packets of any sender are taken out of the tunnel)\n"
        }
        (ServerMode::Tun, false) => {
            "   modprobe ip6_tunnel; ip link set ip6tnl0 up   (packets of any sender are taken out of the tunnel)\n"
        }
    };
    let name = if mode == ServerMode::Dr { "dr" } else { "tun" };
    format!(
        "Linux: `evenkeel real-server setup --mode {name} --vip {vip} --persist` does all of it and checks it. By hand:\n\
         {arp}\
         2. {add}\n{opens}   \
         to last: Debian: post-up {add} in the stanza of lo in /etc/network/interfaces; netplan or systemd-networkd: Address={vip}/{whole} in a file for lo; Red Hat: nmcli connection modify lo +ipv{}.addresses {vip}/{whole}\n\
         3. the service listens on {vip} or on every address: ss -ltn\n\
         To verify: ip addr show dev lo; from another machine of the network: {}   (none but the load balancer answers)\n\
         The default route must lead to the clients, not to the load balancer.\n",
        if v4 { 4 } else { 6 },
        if v4 { format!("arping -c 3 {vip}") } else { format!("ndisc6 {vip} INTERFACE") },
    )
}
