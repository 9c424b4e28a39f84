//! Connections as libpq makes them: by socket, by TCP with a password and a password file, and by TLS that verifies the server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::broken_store::own;
use crate::support::cluster::Cluster;
use crate::support::installation::Installation;
use crate::support::tool::{Ran, run, tool};

/// Whether the server is built with TLS.
fn has_tls(installation: &Installation) -> bool {
    let output = Command::new(&installation.pg_config).arg("--configure").output().unwrap();
    let options = String::from_utf8(output.stdout).unwrap();
    ["--with-openssl", "--with-ssl"].iter().any(|option| options.contains(option))
}

/// A server that listens on 127.0.0.1, with TLS if it is built with it, and takes `lena` there with the password `geheim`, by TLS alone in
/// the database `template1`.
fn listening() -> Cluster {
    let mut conf = vec!["listen_addresses = '127.0.0.1'"];
    let mut rules = vec!["local all all trust", "host all all 127.0.0.1/32 scram-sha-256"];
    if has_tls(&Installation::from_environment()) {
        conf.extend(["ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'"]);
        rules.insert(1, "hostssl template1 all 127.0.0.1/32 scram-sha-256");
        rules.insert(2, "hostnossl template1 all 127.0.0.1/32 reject");
    }
    let mut cluster = Cluster::stopped_with(&conf);
    certify(&cluster, "authority", "localhost");
    fs::write(cluster.data().join("pg_hba.conf"), rules.join("\n") + "\n").unwrap();
    cluster.start();
    let db = cluster.session();
    db.run("create extension rbytea; create role lena login superuser password 'geheim'");
    cluster.session_in("template1").run("create extension rbytea");
    cluster
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority `<name>.crt` in the cluster's directory, and the server's certificate for this host by it.
fn certify(cluster: &Cluster, name: &str, host: &str) -> PathBuf {
    let dir = cluster.dir();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        dir,
        &format!(
            "req -x509 {key} -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name} -addext keyUsage=keyCertSign"
        ),
    );
    openssl(dir, &format!("req {key} -keyout server.key -out server.csr -subj /CN={host}"));
    fs::write(dir.join("names"), format!("subjectAltName=DNS:{host}\n")).unwrap();
    openssl(
        dir,
        &format!(
            "x509 -req -in server.csr -CA {name}.crt -CAkey {name}.key -CAcreateserial -days 2 -sha384 -extfile names -out server.crt"
        ),
    );
    for file in ["server.crt", "server.key"] {
        let target = cluster.data().join(file);
        fs::copy(dir.join(file), &target).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        own(cluster, &target, |_| Ok(()));
    }
    dir.join(format!("{name}.crt"))
}

/// Connects as this string says, in an environment that says nothing, with these variables.
fn connect(cluster: &Cluster, string: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = tool(cluster, ["status", "-w", "-d", string]);
    for variable in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE"] {
        command.env_remove(variable);
    }
    run(command.envs(variables.iter().copied()))
}

#[test]
fn sockets_are_found_by_string_uri_environment_and_service() {
    let cluster = Cluster::with_extension();
    let (dir, port) = (cluster.dir().display().to_string(), cluster.port().to_string());
    let encoded = dir.replace('/', "%2F");
    connect(&cluster, &format!("host={dir} port={port} user=postgres dbname='postgres'"), &[]).ends_with(0);
    connect(&cluster, &format!("postgresql://postgres@{encoded}:{port}/postgres"), &[]).ends_with(0);
    connect(&cluster, "postgres", &[("PGHOST", &dir), ("PGPORT", &port), ("PGUSER", "postgres")])
        .ends_with(0);
    let services = cluster.dir().join("services");
    fs::write(&services, format!("[there]\nhost={dir}\nport={port}\nuser=postgres\n")).unwrap();
    let variables = [("PGSERVICEFILE", services.to_str().unwrap())];
    connect(&cluster, "service=there dbname=postgres", &variables).ends_with(0);
    // The first host is not there; the second one has to be writable.
    let several = format!(
        "postgresql://postgres@%2Fnonexistent:1,{encoded}:{port}/postgres?target_session_attrs=read-write"
    );
    connect(&cluster, &several, &[]).ends_with(0);
    let standby = several.replace("read-write", "standby");
    assert!(connect(&cluster, &standby, &[]).ends_with(1).said.contains("not in hot standby mode"));
    let options = [("PGOPTIONS", "-c default_transaction_read_only=on")];
    assert!(connect(&cluster, &several, &options).ends_with(1).said.contains("read-only"));
}

#[test]
fn passwords_come_from_string_environment_or_file() {
    let cluster = listening();
    let place = format!("postgresql://lena@127.0.0.1:{}/postgres?sslmode=disable", cluster.port());
    let with_password = place.replace("lena@", "lena:geheim@");
    connect(&cluster, &with_password, &[]).ends_with(0);
    connect(&cluster, &place, &[("PGPASSWORD", "geheim")]).ends_with(0);
    let file = cluster.dir().join("pass");
    fs::write(&file, format!("other:*:*:*:x\n127.0.0.1:{}:postgres:lena:geheim\n", cluster.port())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let variables = [("PGPASSFILE", file.to_str().unwrap())];
    connect(&cluster, &place, &variables).ends_with(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = connect(&cluster, &place, &variables).ends_with(1);
    assert!(
        refused.said.contains("group or world access") && refused.said.contains("no password supplied"),
        "{}",
        refused.said
    );
    let wrong = connect(&cluster, &place.replace("lena@", "lena:falsch@"), &[]).ends_with(1);
    assert!(
        wrong.said.contains("password authentication failed") && !wrong.said.contains("falsch"),
        "{}",
        wrong.said
    );
}

#[test]
fn tls_verifies_the_server_as_sslmode_says() {
    let cluster = listening();
    let root = cluster.dir().join("authority.crt").display().to_string();
    let port = cluster.port();
    let to = |host: &str, rest: &str| {
        let string = format!("host={host} port={port} user=lena password=geheim dbname=template1 {rest}");
        connect(&cluster, &string, &[])
    };
    if !has_tls(cluster.installation()) {
        // The server refuses it: who asks for it is told, and who prefers it does without.
        for mode in ["require", "verify-full"] {
            let refused = to("localhost hostaddr=127.0.0.1", &format!("sslmode={mode} sslrootcert={root}"));
            assert!(refused.ends_with(1).said.contains("TLS"), "{mode}");
        }
        to("127.0.0.1", "sslmode=prefer").ends_with(0);
        return;
    }
    let verified = format!("sslmode=verify-full sslrootcert={root} channel_binding=require");
    to("localhost hostaddr=127.0.0.1", &verified).ends_with(0);
    // The certificate is for another name.
    let other = to("127.0.0.1", &format!("sslmode=verify-full sslrootcert={root}")).ends_with(1);
    assert!(other.said.contains("invalid peer certificate"), "{}", other.said);
    to("127.0.0.1", &format!("sslmode=verify-ca sslrootcert={root}")).ends_with(0);
    to("127.0.0.1", &format!("sslmode=require sslrootcert={root}")).ends_with(0);
    for mode in ["require", "prefer", "allow"] {
        to("127.0.0.1", &format!("sslmode={mode}")).ends_with(0);
    }
    to("127.0.0.1", "sslmode=disable").ends_with(1);
    to("127.0.0.1", "sslmode=disable channel_binding=require").ends_with(1);
    // An authority that has not signed it.
    let stranger = Cluster::stopped_with(&[]);
    let stranger = certify(&stranger, "stranger", "localhost").display().to_string();
    for mode in ["verify-full", "verify-ca", "require"] {
        to("localhost hostaddr=127.0.0.1", &format!("sslmode={mode} sslrootcert={stranger}")).ends_with(1);
    }
    to("localhost hostaddr=127.0.0.1", "sslrootcert=system").ends_with(1);
    to("localhost hostaddr=127.0.0.1", "sslmode=verify-full sslrootcert=/nonexistent").ends_with(1);
}
