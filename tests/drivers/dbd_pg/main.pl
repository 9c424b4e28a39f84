# Files in a table, with DBD::Pg.
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:pg_types);
use Digest::SHA qw(sha256_hex);

my ($table, $directory, $mode) = @ARGV;
my $db = DBI->connect("dbi:Pg:", undef, undef, { RaiseError => 1 });
$db->{pg_server_prepare} = $mode eq "prepared";
opendir(my $listing, $directory) or die;
my @files = sort grep { !/^\./ } readdir($listing);

sub content {
    open(my $file, "<:raw", "$directory/$_[0]") or die;
    local $/;
    return <$file> // "";
}

sub bytes_of {
    my ($content) = @_;
    return "null" unless defined $content;
    return join(" ", utf8::is_utf8($content) ? "text" : "bytes", length($content), sha256_hex($content));
}

sub show {
    my $rows = $db->selectall_arrayref("SELECT name, note, content FROM $table ORDER BY name");
    print join(" ", "row", $_->[0], $_->[1], bytes_of($_->[2])), "\n" for @$rows;
}

my $insert = $db->prepare("INSERT INTO $table (name, note, content) VALUES (?, ?, ?)");
$insert->bind_param(3, undef, { pg_type => PG_BYTEA });
$insert->execute($_, "new", content($_)) for @files;
$insert->execute("null", "new", undef);
show();
my $select = $db->prepare("SELECT content FROM $table");
$select->execute;
print "type $select->{pg_type}[0]\n";
$select->finish;

my $find = $db->prepare("SELECT name FROM $table WHERE content = ?");
$find->bind_param(1, content($files[0]), { pg_type => PG_BYTEA });
$find->execute;
print "found ", $find->fetchrow_array, "\n";
$find->finish;
$db->do("UPDATE $table SET note = 'changed'");
my $rows = $db->selectall_arrayref("SELECT name, content FROM $table ORDER BY name");
$insert->execute("copy-of-$_->[0]", "copied", $_->[1]) for @$rows;
print "deleted ", bytes_of($db->selectrow_array("DELETE FROM $table WHERE name = 'empty' RETURNING content")), "\n";
show();
$db->disconnect;
