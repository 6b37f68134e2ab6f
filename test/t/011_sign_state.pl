# The sign-state: what is written is read back, one database at a time may sign, and a
# file that was damaged, swapped or planted is refused.  And of the keyring what only C
# can ask: that a sealer outlives its transaction and that secrets are wiped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('signer', databases => [ 'clinic', 'ward' ], setup => 0);
my $keys = key_directory($node);
my $module = "$FindBin::RealBin/../modules/test_keys";

$node->safe_psql(
	$_, qq(
	CREATE FUNCTION state_write(bigint) RETURNS void AS '$module', 'test_signstate_write' LANGUAGE c;
	CREATE FUNCTION state_read() RETURNS text AS '$module', 'test_signstate_read' LANGUAGE c;
	CREATE FUNCTION state_lock() RETURNS boolean AS '$module', 'test_signstate_lock' LANGUAGE c;
	CREATE FUNCTION seal_and_open(text, integer) RETURNS text AS '$module', 'test_seal_and_open' LANGUAGE c;
	CREATE FUNCTION secret_left(boolean) RETURNS integer AS '$module', 'test_secret_left' LANGUAGE c;)) foreach qw(clinic ward);

# --- written and read
is(query($node, 'clinic', 'SELECT state_read() IS NULL'), 't', 'no sign-state at first');
my $here = query($node, 'clinic',
	q(SELECT system_identifier || ' 1 ' || oid FROM pg_control_system(), pg_database WHERE datname = current_database()));
query($node, 'clinic', 'SELECT state_write(5)');
is(query($node, 'clinic', 'SELECT state_read()'), "5 5 $here", 'what is written is read back, with where it was signed');
query($node, 'clinic', 'SELECT state_write(6)');
is(query($node, 'clinic', 'SELECT state_read()'), "6 6 $here", 'and replaced');
my ($name) = grep { /^sign-state-[0-9a-f]{16}$/ } slurp_dir($keys);
is($name, 'sign-state-abababababababab', 'its name tells the chain');
is((stat("$keys/$name"))[2] & 07777, 0600, 'its mode');
is_deeply([ grep { /^\.sign/ } slurp_dir($keys) ], [], 'no temporary file is left');

# --- one database signs at a time
my ($in, $out) = ("SELECT state_lock(), state_lock();\n", '');
my $other = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('clinic') ], '<', \$in, '>', \$out,
	IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
$other->pump until $out =~ /\n/;
is($out, "t|t\n", 'a process takes the lock, and again');
is(query($node, 'clinic', 'SELECT state_lock()'), 't', 'another of the same database shares it');
is(query($node, 'ward', 'SELECT state_lock()'), 'f', 'one of another database does not get it');
$in .= "\\q\n";
$other->finish;
wait_for($node, 'ward', 'SELECT state_lock()', 'until the first has gone');

# --- refused
my $good = slurp_file("$keys/$name");
my $spew = sub { open(my $file, '>:raw', "$keys/$name") or die $!; print $file $_[0]; close($file) };
is(length($good), 2 * 4096, 'it has two pages');
foreach my $at (0, 1, 2, 9, 40, 80, 137)
{
	my $bad = $good;
	substr($bad, 4096 + $at, 1) ^= "\x01";
	$spew->($bad);
	is(query($node, 'clinic', 'SELECT state_read()'), "5 5 $here", "a bit at $at that a crash flipped in what was being written: the state before");
	substr($bad, $at, 1) ^= "\x01";
	$spew->($bad);
	fails_with($node, 'clinic', 'SELECT state_read()', 'AP003', qr/is not a whole sign-state/, "a flipped bit at $at, in both pages");
}
my $torn = substr($good, 0, 4096 + 60) . ("\0" x (4096 - 60));
$spew->($torn);
is(query($node, 'clinic', 'SELECT state_read()'), "5 5 $here", 'a page that was written in part');
query($node, 'clinic', 'SELECT state_write(6)');
is(slurp_file("$keys/$name"), $good, 'is written again, the other one is not touched');
query($node, 'clinic', 'SELECT state_write(4)');
is(query($node, 'clinic', 'SELECT state_read()'), "4 4 $here", 'a state of a lower height that was written later counts');
is(substr(slurp_file("$keys/$name"), 4096), substr($good, 4096), 'and has taken the place of the oldest');
$spew->("\0" x 8192);
query($node, 'clinic', 'SELECT state_write(6)');
is(query($node, 'clinic', 'SELECT state_read()'), "6 6 $here", 'a damaged file is replaced');
$spew->(substr($good, 0, -1));
fails_with($node, 'clinic', 'SELECT state_read()', 'AP003', qr/is not a whole sign-state/, 'a short file');
$spew->($good . "\0");
fails_with($node, 'clinic', 'SELECT state_read()', 'AP003', qr/is too long/, 'a long file');
unlink("$keys/$name");
symlink('/dev/null', "$keys/$name");
fails_with($node, 'clinic', 'SELECT state_read()', 'AP003', qr/is a symbolic link/, 'a symbolic link');
unlink("$keys/$name");
$spew->($good);
chmod(0644, "$keys/$name");
fails_with($node, 'clinic', 'SELECT state_read()', 'AP003', qr/has group or other access/, 'a file that others can read');
chmod(0600, "$keys/$name");
is(query($node, 'clinic', 'SELECT state_read()'), "6 6 $here", 'the good one is read again');

# --- where keys come from a command, the sign-state is still a file
set_and_reload($node, 'apm.secret_command', 'exit 1');
is(query($node, 'clinic', 'SELECT state_read()'), "6 6 $here", 'also with apm.secret_command');
fails_with($node, 'clinic', q(SELECT seal_and_open('x', 0)), 'AP002', qr/this server lacks the public key "apm-envelope"/,
	'a missing key is named');
set_and_reload($node, 'apm.secret_command', '');

# --- the sealer and the openers of a session serve transaction after transaction
is( query($node, 'clinic', join('', map { "SELECT seal_and_open('$_', $_ % 2 * 2);" } 1 .. 6)),
	join("\n", 1 .. 6), 'sealed and opened in six transactions');
is(query($node, 'clinic', q(SELECT seal_and_open('x', 0); SELECT pg_reload_conf(); SELECT seal_and_open('y', 2))),
	"x\nt\ny", 'and after a reload');
fails_with($node, 'clinic', q(SELECT seal_and_open('x', 1)), 'AP004', qr/could not open a text/,
	'who is no recipient does not open');

# --- memory
is(query($node, 'clinic', 'SELECT secret_left(false)'), '64', 'memory that is not secret stays as it was');
is(query($node, 'clinic', 'SELECT secret_left(true)'), '0', 'a secret is wiped with its memory context');

$node->stop;
done_testing();
