//! Programs whose output is of others: what they download, read or list.

/// Programs whose output is of the caller's choice where the caller chooses their operands.
const FETCHING: &[&str] = &[
    "curl",
    "wget",
    "aws",
    "gsutil",
    "gcloud",
    "az",
    "scp",
    "git",
    "http",
    "lynx",
    "fetch",
    "cat",
    "zcat",
    "bzcat",
    "xzcat",
    "gunzip",
    "tar",
    "unzip",
    "openssl",
    "nc",
    "ncat",
    "socat",
    "dig",
    "ssh",
    "sftp",
    "ftp",
    "lftp",
    "telnet",
    "rsh",
    "host",
    "nslookup",
    "snmpget",
    "snmpwalk",
    "ldapsearch",
    "vault",
    "consul",
    "etcdctl",
    "redis-cli",
    "mysql",
    "mariadb",
    "psql",
    "mongo",
    "mongosh",
    "sqlite3",
    "sqlplus",
    "sqlcmd",
    "rclone",
    "mc",
    "s3cmd",
    "azcopy",
    "aria2c",
    "axel",
    "bzcat",
    "lz4cat",
    "zstdcat",
    "pdftotext",
    "strings",
    "unrar",
    "7z",
    "cpio",
    "svn",
    "hg",
];

/// Programs that list what lies at a place, which is of the caller's choice where the caller chooses the place.
const LISTING: &[&str] = &["find", "ls", "dir", "tree", "locate", "lsof", "zipinfo", "rg", "fd"];

/// Operations of `aws` that return text of others.
const STORED: &[&str] =
    &["s3", "s3api", "invoke", "decrypt", "query", "scan", "select-object-content", "describe-tags"];

/// Options of downloaders whose operand is sent, or says how to ask.
const SENT: &[&str] = &[
    "-d",
    "-H",
    "-u",
    "-F",
    "-X",
    "-A",
    "-e",
    "-b",
    "-m",
    "--data",
    "--data-raw",
    "--data-binary",
    "--data-urlencode",
    "--json",
    "--header",
    "--user",
    "--form",
    "--request",
    "--user-agent",
    "--max-time",
    "--connect-timeout",
    "--retry",
    "--timeout",
    "--tries",
    "--post-data",
    "--password",
    "--cookie",
];

/// True if the operands of `program` choose its output.
pub(in crate::pack::import::shell) fn fetches(program: &str) -> bool {
    FETCHING.contains(&program)
}

/// True if `program` lists what lies at a place that its operands name.
pub(in crate::pack::import::shell) fn lists(program: &str) -> bool {
    LISTING.contains(&program)
}

/// True for an operation of `aws` that returns text of others.
pub(in crate::pack::import::shell) fn fetches_from_aws(word: &str) -> bool {
    STORED.contains(&word) || word.starts_with("get-") || word.starts_with("receive-")
}

/// True for the operand of this option of a downloader, which does not choose what is fetched.
pub(in crate::pack::import::shell) fn sends(program: &str, option: &str) -> bool {
    ["curl", "wget", "http"].contains(&program) && SENT.contains(&option)
}
