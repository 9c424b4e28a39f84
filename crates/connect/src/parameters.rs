//! Connection strings, in both forms: `key = 'value' …` and `postgresql://…` (libpq, "Connection Strings"). Parameters
//! are what was said explicitly, by keyword.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Error;

/// What is done with a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is honoured.
    Honoured,
    /// It makes no difference here: the encoding is always UTF-8, and there is no GSSAPI.
    Ignored,
    /// To leave it out could mean less safety than was asked for.
    Refused,
}

/// The keywords, each with its environment variable.
pub(crate) const KEYWORDS: &[(&str, &str, Use)] = &[
    ("host", "PGHOST", Use::Honoured),
    ("hostaddr", "PGHOSTADDR", Use::Honoured),
    ("port", "PGPORT", Use::Honoured),
    ("dbname", "PGDATABASE", Use::Honoured),
    ("user", "PGUSER", Use::Honoured),
    ("password", "PGPASSWORD", Use::Honoured),
    ("passfile", "PGPASSFILE", Use::Honoured),
    ("service", "PGSERVICE", Use::Honoured),
    ("options", "PGOPTIONS", Use::Honoured),
    ("application_name", "PGAPPNAME", Use::Honoured),
    ("fallback_application_name", "", Use::Honoured),
    ("connect_timeout", "PGCONNECT_TIMEOUT", Use::Honoured),
    ("target_session_attrs", "PGTARGETSESSIONATTRS", Use::Honoured),
    ("channel_binding", "PGCHANNELBINDING", Use::Honoured),
    ("sslmode", "PGSSLMODE", Use::Honoured),
    ("sslnegotiation", "PGSSLNEGOTIATION", Use::Honoured),
    ("sslrootcert", "PGSSLROOTCERT", Use::Honoured),
    ("sslcrl", "PGSSLCRL", Use::Honoured),
    ("sslcert", "PGSSLCERT", Use::Honoured),
    ("sslkey", "PGSSLKEY", Use::Honoured),
    ("keepalives", "", Use::Honoured),
    ("keepalives_idle", "", Use::Honoured),
    ("keepalives_interval", "", Use::Honoured),
    ("keepalives_count", "", Use::Honoured),
    ("tcp_user_timeout", "", Use::Honoured),
    ("client_encoding", "PGCLIENTENCODING", Use::Ignored),
    ("gssencmode", "PGGSSENCMODE", Use::Ignored),
    ("gsslib", "PGGSSLIB", Use::Ignored),
    ("gssdelegation", "PGGSSDELEGATION", Use::Ignored),
    ("krbsrvname", "PGKRBSRVNAME", Use::Ignored),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS", Use::Ignored),
    ("sslcompression", "PGSSLCOMPRESSION", Use::Ignored),
    ("sslsni", "PGSSLSNI", Use::Ignored),
    ("sslcertmode", "PGSSLCERTMODE", Use::Refused),
    ("sslcrldir", "PGSSLCRLDIR", Use::Refused),
    ("sslpassword", "", Use::Refused),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Use::Refused),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Use::Refused),
    ("require_auth", "PGREQUIREAUTH", Use::Refused),
    ("requirepeer", "PGREQUIREPEER", Use::Refused),
    ("replication", "", Use::Refused),
];

const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// Whether libpq takes a database's name for a connection string: a URI, or something with `=`.
pub fn is_connection_string(text: &str) -> bool {
    text.contains('=') || SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// Values by keyword. Printing them shows no password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    /// Of a connection string in either form; nothing of an empty one.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parameters = Self::default();
        match SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => parse_uri(rest, &mut parameters)?,
            None => parse_pairs(text, &mut parameters)?,
        }
        Ok(parameters)
    }

    /// Sets what a keyword says; the last one counts.
    pub fn set(&mut self, keyword: &str, value: &str) -> Result<(), Error> {
        let Some((keyword, _, taken)) = KEYWORDS.iter().find(|(known, ..)| *known == keyword) else {
            return Err(Error::UnknownOption(keyword.to_owned()));
        };
        if *taken == Use::Refused && !value.is_empty() {
            return Err(Error::Unsupported(keyword));
        }
        self.0.insert(keyword, value.to_owned());
        Ok(())
    }

    /// The same unless the keyword has a value.
    pub(crate) fn set_default(&mut self, keyword: &str, value: &str) -> Result<(), Error> {
        if self.get(keyword).is_some() { Ok(()) } else { self.set(keyword, value) }
    }

    /// What a keyword says; an empty value counts as none.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// As a connection string for PostgreSQL's own programs, without the password, which a list of processes would show.
    pub fn without_password(&self) -> String {
        let pairs = self.0.iter().filter(|(keyword, _)| **keyword != "password");
        let pairs = pairs.map(|(keyword, value)| {
            format!("{keyword}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
        });
        pairs.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_password())
    }
}

/// `key = value 'key' …`, with backslashes before quotes and backslashes.
fn parse_pairs(text: &str, into: &mut Parameters) -> Result<(), Error> {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let keyword = &rest[..end];
        let Some(value) = rest[end..].trim_start().strip_prefix('=') else {
            // Not the word itself: it may be a part of a password.
            return Err(Error::Syntax("missing \"=\" after a word in the connection string".into()));
        };
        let (value, after) = pair_value(value.trim_start())?;
        into.set(keyword, &value).map_err(|error| match error {
            // As above.
            Error::UnknownOption(_) => {
                Error::Syntax("invalid connection option in the connection string".into())
            }
            other => other,
        })?;
        rest = after.trim_start();
    }
    Ok(())
}

/// A value at the beginning of a text, and what comes after it.
fn pair_value(text: &str) -> Result<(String, &str), Error> {
    let (quoted, body) = text.strip_prefix('\'').map_or((false, text), |body| (true, body));
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(Error::Syntax("unterminated quoted string in the connection string".into()));
    }
    Ok((value, ""))
}

/// `[user[:password]@][host[:port][,…]][/database][?keyword=value&…]`, what comes after the scheme.
fn parse_uri(text: &str, into: &mut Parameters) -> Result<(), Error> {
    let slash = text.find('/').unwrap_or(text.len());
    // A "?" before the "@" is the password's.
    let (login, text) = match text[..slash].rfind('@') {
        Some(at) => (Some(&text[..at]), &text[at + 1..]),
        None => (None, text),
    };
    let (place, query) = text.split_once('?').map_or((text, None), |(place, query)| (place, Some(query)));
    let (hosts, database) = place.split_at(place.find('/').unwrap_or(place.len()));
    if login.is_none() && hosts.contains(':') && database.contains('@') {
        return Err(Error::Syntax(
            "a \"/\" in the user name or the password of a connection URI is written as \"%2F\"".into(),
        ));
    }
    if let Some(login) = login {
        let (user, password) = login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)));
        set_decoded(into, "user", user)?;
        set_decoded(into, "password", password.unwrap_or_default())?;
    }
    let (hosts, ports): (Vec<_>, Vec<_>) =
        hosts.split(',').map(host_and_port).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    set_decoded(into, "host", &hosts.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        set_decoded(into, "port", &ports.join(","))?;
    }
    set_decoded(into, "dbname", database.strip_prefix('/').unwrap_or_default())?;
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let Some((keyword, value)) = pair.split_once('=') else {
            return Err(Error::Syntax("missing \"=\" in a parameter of the connection URI".into()));
        };
        match (decode(keyword)?.as_str(), decode(value)?.as_str()) {
            ("ssl", "true") => into.set("sslmode", "require")?,
            (keyword, value) => into.set(keyword, value).map_err(|error| match error {
                // It may be a part of a password that has a "?" and a "/".
                Error::UnknownOption(_) if query.is_some_and(|query| query.contains('@')) => {
                    Error::Syntax("invalid connection option in the connection URI".into())
                }
                other => other,
            })?,
        }
    }
    Ok(())
}

/// Host and port of one entry; an IPv6 address stands in brackets.
fn host_and_port(entry: &str) -> Result<(&str, &str), Error> {
    if let Some(address) = entry.strip_prefix('[') {
        let (address, rest) = address.split_once(']').ok_or_else(|| {
            Error::Syntax("missing \"]\" after an IPv6 address in the connection URI".into())
        })?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, port)),
            None if rest.is_empty() => Ok((address, "")),
            None => Err(Error::Syntax("unexpected text after \"]\" in the connection URI".into())),
        };
    }
    Ok(entry.split_once(':').unwrap_or((entry, "")))
}

fn set_decoded(into: &mut Parameters, keyword: &str, value: &str) -> Result<(), Error> {
    if value.is_empty() { Ok(()) } else { into.set(keyword, &decode(value)?) }
}

/// What percent signs stand for in a URI.
///
/// # Errors
/// Where two hexadecimal digits do not follow one, or no text comes of them.
pub fn decode(text: &str) -> Result<String, Error> {
    let invalid = || Error::Syntax("invalid percent-encoded token in the connection URI".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(invalid)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte =
            digits.iter().try_fold(0, |sum, byte| Some(sum * 16 + digit(*byte)?)).ok_or_else(invalid)?;
        bytes.push(u8::try_from(byte).ok().filter(|byte| *byte != 0).ok_or_else(invalid)?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(&'static str, String)> {
        Parameters::parse(text).unwrap().0.into_iter().collect()
    }

    fn pairs(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        pairs.iter().map(|(keyword, value)| (*keyword, (*value).to_owned())).collect()
    }

    #[test]
    fn pairs_have_quotes_and_escapes() {
        assert_eq!(
            parsed(r"host=db1 dbname = 'it\'s' user=a\ b password='' application_name='back\\slash'"),
            pairs(&[
                ("application_name", r"back\slash"),
                ("dbname", "it's"),
                ("host", "db1"),
                ("password", ""),
                ("user", "a b"),
            ])
        );
        assert_eq!(parsed("  "), []);
        for wrong in ["host", "host db1", "host='db1", "nonsense=1", "require_auth=scram-sha-256"] {
            assert!(Parameters::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn uris_have_every_part_or_none() {
        assert_eq!(parsed("postgresql://"), []);
        assert_eq!(
            parsed("postgres://u%40x:p%3aw@[::1]:1,db2,/d%20b?sslmode=verify-full&application_name=a%26b"),
            pairs(&[
                ("application_name", "a&b"),
                ("dbname", "d b"),
                ("host", "::1,db2,"),
                ("password", "p:w"),
                ("port", "1,,"),
                ("sslmode", "verify-full"),
                ("user", "u@x"),
            ])
        );
        assert_eq!(
            parsed("postgresql://%2Fvar%2Frun%2Fpostgresql/?ssl=true"),
            pairs(&[("host", "/var/run/postgresql"), ("sslmode", "require")])
        );
        assert_eq!(
            parsed("postgresql:///db?host=/tmp&port=5433"),
            pairs(&[("dbname", "db"), ("host", "/tmp"), ("port", "5433")])
        );
        assert_eq!(
            parsed("postgresql://u:1?2=3@h?host=/tmp"),
            pairs(&[("host", "/tmp"), ("password", "1?2=3"), ("user", "u")])
        );
        for wrong in [
            "postgresql://[::1",
            "postgresql://[::1]x",
            "postgresql://h/%zz",
            "postgresql://h/?x",
            "postgresql://h/%00",
        ] {
            assert!(Parameters::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let secret = Parameters::parse("postgresql://u:secret@h/").unwrap();
        assert_eq!(format!("{secret:?}"), "host='h' user='u'");
        for wrong in [
            "password=x secret",
            "password=x secret=1",
            "postgresql://u:a?secret=1/b@h/",
            "postgresql://u:secret@[h",
            "postgresql://u:se/secret@h/db",
            "password='secret",
        ] {
            let error = Parameters::parse(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn what_is_printed_can_be_parsed() {
        let odd = Parameters::parse(r"dbname='it\'s a \\' host='' user=' '").unwrap();
        assert_eq!(Parameters::parse(&odd.without_password()).unwrap(), odd);
    }
}
