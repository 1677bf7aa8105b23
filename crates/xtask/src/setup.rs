//! What tests and benchmarks need from the machine: looked for first, installed only when absent.

use std::path::Path;

use crate::process;
use crate::tools;

struct Need {
    package: &'static str,
    purpose: &'static str,
    is_met: fn() -> bool,
}

const LAMBDA_CLIENT: &str = "a tool that builds the Lambda client for Node";

const NEEDS: [Need; 24] = [
    Need { package: "nodejs", purpose: "Node.js 18 or later, for Node functions", is_met: tools::has_node },
    Need {
        package: "python3",
        purpose: "Python 3.9 or later, for Python functions",
        is_met: tools::has_python,
    },
    Need { package: "ruby", purpose: "Ruby 2.7 or later, for Ruby functions", is_met: tools::has_ruby },
    Need { package: "ruby-minitest", purpose: "minitest, for the Ruby shim", is_met: tools::has_minitest },
    Need {
        package: "mono-mcs",
        purpose: "Mono with its compiler, for C# functions",
        is_met: || tools::has("mono") && tools::has("mcs"),
    },
    Need { package: "php-cli", purpose: "PHP, for PHP functions", is_met: || tools::has("php") },
    Need {
        package: "nftables",
        purpose: "the packet filter of functions that have a network",
        is_met: || Path::new("/usr/sbin/nft").exists(),
    },
    Need {
        package: "passt",
        purpose: "pasta, the network of functions of an ordinary user's server",
        is_met: || tools::has("pasta"),
    },
    Need {
        package: "iproute2",
        purpose: "the networks that tests play in",
        is_met: || Path::new("/usr/sbin/ip").exists() || Path::new("/sbin/ip").exists(),
    },
    Need { package: "python3-pip", purpose: "pip, for the Lambda client for Python", is_met: tools::has_pip },
    Need { package: "autoconf", purpose: LAMBDA_CLIENT, is_met: || tools::has("autoreconf") },
    Need { package: "automake", purpose: LAMBDA_CLIENT, is_met: || tools::has("automake") },
    Need { package: "libtool", purpose: LAMBDA_CLIENT, is_met: || tools::has("libtoolize") },
    Need { package: "cmake", purpose: LAMBDA_CLIENT, is_met: || tools::has("cmake") },
    Need { package: "g++", purpose: LAMBDA_CLIENT, is_met: || tools::has("g++") },
    Need { package: "curl", purpose: "curl, for the documents' commands", is_met: || tools::has("curl") },
    Need { package: "openssl", purpose: "openssl, for a server with TLS", is_met: || tools::has("openssl") },
    Need { package: "golang-go", purpose: "Go 1.19 or later, for Go functions", is_met: || tools::has("go") },
    Need {
        package: "postgresql",
        purpose: "PostgreSQL, for servers that share a database",
        is_met: tools::has_postgres,
    },
    Need {
        package: "runc",
        purpose: "runc, for servers in containers",
        is_met: || Path::new("/usr/sbin/runc").exists(),
    },
    Need {
        package: "redis-server",
        purpose: "Redis, for servers that share a queue",
        is_met: || tools::has("redis-server") && tools::has("redis-cli"),
    },
    Need {
        package: "faketime",
        purpose: "libfaketime, for servers whose clocks are wrong",
        is_met: || tools::has("faketime"),
    },
    Need { package: "jq", purpose: "jq, for the documents' commands", is_met: || tools::has("jq") },
    Need {
        package: "wrk",
        purpose: "the load generator of the benchmarks",
        is_met: || process::output_of("which", &["wrk"]).is_some(),
    },
];

/// Installs what is absent and prints what stays absent. Whether everything is there.
pub fn run() -> bool {
    let missing = provide();
    for line in &missing {
        println!("left out: {line}");
    }
    missing.is_empty()
}

/// Installs what is absent; returns a line for everything that still is.
pub fn provide() -> Vec<String> {
    let absent: Vec<&Need> = NEEDS.iter().filter(|need| !(need.is_met)()).collect();
    if absent.is_empty() {
        return Vec::new();
    }
    let packages: Vec<&str> = absent.iter().map(|need| need.package).collect();
    let refusal = install(&packages).err();
    let still_absent = absent.into_iter().filter(|need| !(need.is_met)());
    still_absent
        .map(|need| {
            let why = refusal.as_deref().unwrap_or("the package is too old");
            format!("{} (Debian package {}): {why}", need.purpose, need.package)
        })
        .collect()
}

/// Installs Debian packages, or says why not.
fn install(packages: &[&str]) -> Result<(), String> {
    if process::output_of("apt-get", &["--version"]).is_none() {
        return Err("no apt-get on this machine".to_owned());
    }
    let prefix: &[&str] = if tools::is_root() {
        &["env"]
    } else if process::output_of("sudo", &["-n", "true"]).is_some() {
        &["sudo", "-n", "env"]
    } else {
        return Err("neither root nor sudo without a password".to_owned());
    };
    println!("installing {}", packages.join(", "));
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(packages);
    apt(prefix, &arguments)
        .or_else(|_| apt(prefix, &["update", "--quiet"]).and_then(|()| apt(prefix, &arguments)))
}

fn apt(prefix: &[&str], arguments: &[&str]) -> Result<(), String> {
    let fixed = ["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=60"];
    let words: Vec<&str> = prefix.iter().chain(&fixed).chain(arguments).copied().collect();
    let Some((program, rest)) = words.split_first() else { return Err("no command".to_owned()) };
    match process::everything_of(&mut process::command(Path::new("/"), program, rest)) {
        Ok((_, true)) => Ok(()),
        Ok((text, false)) => Err(last_error(&text)),
        Err(error) => Err(format!("cannot start {program}: {error}")),
    }
}

/// The last line in which apt complains, else the last line.
fn last_error(text: &str) -> String {
    let complaint = text.lines().rev().find(|line| line.starts_with("E:"));
    let line = complaint.or_else(|| text.lines().next_back());
    format!("apt-get failed: {}", line.unwrap_or("without a message").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_of_apt_is_found() {
        let text = "Reading package lists...\nE: Unable to locate package wrk\nW: something else\n";
        assert_eq!(last_error(text), "apt-get failed: E: Unable to locate package wrk");
        assert_eq!(last_error(""), "apt-get failed: without a message");
    }
}
