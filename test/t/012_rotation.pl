# Keys get successors and old generations go, one step at a time: which kinds, by whom, what
# lies in the directory before and after, what an aborted call leaves and the next one takes up,
# and that no generation goes which something still needs.  Keys from a command likewise.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('rotation', setup => 0, settings => { max_prepared_transactions => 2 });
my $keys = key_directory($node);
my $in_force = q(SELECT count(*) = 0 FROM apm.rotation WHERE finished_at IS NULL);
my $drained = q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
	AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox));

sub rotate { return query($node, 'clinic', "SELECT apm_rotate_key('$_[0]')") }
sub retire { return query($node, 'clinic', "SELECT apm_retire_key('$_[0]', $_[1])") }
sub rotate_refused { return fails_with($node, 'clinic', "SELECT apm_rotate_key('$_[0]')", @_[1 .. 3]) }
sub retire_refused { return fails_with($node, 'clinic', "SELECT apm_retire_key('$_[0]', $_[1])", @_[2 .. 4]) }
sub generations
{
	return query($node, 'clinic',
		"SELECT string_agg(generation || CASE WHEN active THEN ' active' ELSE '' END || CASE WHEN has_private THEN '' ELSE ' public' END,
			', ' ORDER BY generation) FROM apm.key WHERE kind = '$_[0]'");
}
sub files { return join(' ', sort grep { /^\Q$_[0]\E\./ } slurp_dir($keys)) }

# --- who, what, where
rotate_refused('network-server', 'AP011', qr/not set up/, 'nothing is rotated before there is a chain');
is(generations('network-server'), '1 active', 'nor made');
query($node, 'clinic', 'SELECT apm_setup()');
$node->safe_psql('clinic', 'CREATE ROLE stranger; CREATE ROLE boss IN ROLE apm_admin; CREATE ROLE clerk IN ROLE apm_registrar;
	CREATE ROLE doctor IN ROLE apm_clinician; GRANT EXECUTE ON FUNCTION apm_rotate_key(text), apm_retire_key(text, integer) TO doctor');
foreach my $sql ("SELECT apm_rotate_key('network-server')", "SELECT apm_retire_key('network-server', 1)")
{
	fails_with($node, 'clinic', $sql, '42501', qr/permission denied/, "a stranger may not: $sql", 'stranger');
	fails_with($node, 'clinic', $sql, '42501', qr/permission denied to (?:rotate|retire) keys/, 'nor who was granted it by mistake', 'doctor');
	fails_with($node, 'clinic', "SET default_transaction_read_only = on; $sql", '25006', qr/read-only/, 'nor in a read-only transaction');
}
rotate_refused('nonsense', '22023', qr/no such kind.*apm-wrapping/s, 'a kind that does not exist');
foreach my $kind (qw(apm-index apm-pepper apm-staff apm-search apm-export))
{
	rotate_refused($kind, '22023', qr/have no generations.*found again/s, "$kind cannot be rotated, and why");
	retire_refused($kind, 1, '22023', qr/have no generations/, 'nor retired');
}
is(files('apm-index'), 'apm-index.key', 'no file was made');

# --- pairs
foreach my $kind (qw(apm-envelope network-server private-blockchain))
{
	is(rotate($kind), '2', "$kind: the next generation");
	is(generations($kind), '1, 2 active', 'is the active one');
	is(files($kind), "$kind.1.pem $kind.1.pub.pem $kind.2.pem $kind.2.pub.pem", 'beside the old one');
	is((stat("$keys/$kind.2.pem"))[2] & 07777, 0600, 'for its owner alone');
}
is(query($node, 'clinic', q(SELECT kind, generation, items_done, items_total, finished_at >= started_at FROM apm.rotation ORDER BY kind), 'boss'),
	join("\n", map { "$_|2|0|0|t" } qw(apm-envelope network-server private-blockchain)),
	'apm.rotation shows them');

# --- what an aborted call leaves is taken up
my $before = slurp_file("$keys/network-server.2.pem");
$node->safe_psql('clinic', q(BEGIN; SELECT apm_rotate_key('network-server'); ROLLBACK));
is(generations('network-server'), '1, 2, 3 active', 'a call that was rolled back has made its file');
is(query($node, 'clinic', q(SELECT max(generation) FROM apm.rotation WHERE kind = 'network-server')), '2', 'and nothing else');
is(query($node, 'clinic', q(SELECT apm_rotate_key('network-server')), 'boss'), '3', 'the next call takes it');
is(generations('network-server'), '1, 2, 3 active', 'and makes no other');
is(slurp_file("$keys/network-server.2.pem"), $before, 'what was there is as it was');
spew("$keys/apm-wrapping.2.key", 'w' x 32);
is(rotate('apm-wrapping'), '2', 'a file that somebody made by hand is taken as well');
is(slurp_file("$keys/apm-wrapping.2.key"), 'w' x 32, 'and not replaced');
wait_for($node, 'clinic', $in_force, 'with nothing to move it is done');

# --- retirement
retire_refused('network-server', 3, '55006', qr/cannot be retired: it is the newest/, 'the newest stays');
retire_refused('network-server', $_, '22023', qr/there never was/, "generation $_ never was") foreach (0, 4, -1);
wait_for($node, 'clinic', $drained, 'nothing is on its way');
{
	my $reader = $node->background_psql('clinic');
	$reader->query_safe('BEGIN; SELECT 1');
	fails_with($node, 'clinic', q(SET lock_timeout = '200ms'; SELECT apm_retire_key('network-server', 1)),
		'55P03', qr/lock timeout/, 'who began before is waited for');
	is(files('network-server') =~ /network-server\.1\.pem/ ? 1 : 0, 1, 'and nothing was removed');
	$reader->query_safe('COMMIT');
	$reader->quit;
}
query($node, 'clinic', q(BEGIN; CREATE TABLE promised (); PREPARE TRANSACTION 'promised'));
is(query($node, 'clinic', q(SET lock_timeout = '10s'; SELECT apm_retire_key('network-server', 1))), '', 'a prepared transaction is not waited for');
query($node, 'clinic', q(ROLLBACK PREPARED 'promised'));
is(generations('network-server'), '1 public, 2, 3 active', 'a generation without use goes, its public half stays');
ok(!-e "$keys/network-server.1.pem", 'its file is gone');
{
	my ($out, $err);
	$node->psql('clinic', q(SELECT apm_retire_key('network-server', 1)), stdout => \$out, stderr => \$err);
	like($err, qr/NOTICE:.*is gone already/, 'the second call says that it is gone');
}
retire('apm-wrapping', 1);
is(files('apm-wrapping'), 'apm-wrapping.2.key', 'nobody is wrapped by generation 1 of the wrapping key');
query($node, 'clinic', q(SELECT apm_register_patient('p1', '{"Firstname": "Amina"}', '{}')), 'clerk');
is(query($node, 'clinic', 'SELECT generation FROM apm.patient'), '2', 'the next patient is, by generation 2');
rotate('apm-wrapping');
wait_for($node, 'clinic', $in_force, 'his key moves');
is(query($node, 'clinic', 'SELECT generation FROM apm.patient'), '3', 'to the next');
is(query($node, 'clinic', q(SELECT items_done, items_total FROM apm.rotation WHERE kind = 'apm-wrapping' AND generation = 3)),
	'1|1', 'which is shown');

# what needs a generation, by name and number
wait_for($node, 'clinic', $drained, 'the registration is on the chain');
rotate('private-blockchain');
{
	my $rid = query($node, 'clinic', q(SELECT apm_submit('p1', '{"a": 1}')), 'doctor');
	wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.cloud_record', 'a record is in the cloud');
	rotate('apm-envelope');
	retire_refused('apm-envelope', 2, '55006', qr/still needed.*1 of the cloud.*apm_rebuild_cloud/s, 'the cloud has a record that it opens');
	is(query($node, 'clinic', q(SELECT record ->> 'a' FROM apm_fetch('p1')), 'doctor'), '1', 'which reads');
	retire('apm-envelope', 1);
	is(query($node, 'clinic', q(SELECT record ->> 'a' FROM apm_fetch('p1')), 'doctor'), '1', 'and goes on to');
}

# --- files that appear without anybody being told
my @handmade = (['apm-envelope', 4], ['network-server', 4], ['private-blockchain', 4]);
make_pair("$keys/$_->[0].$_->[1].pem") foreach @handmade;
query($node, 'clinic', q(SELECT apm_submit('p1', '{"a": 0}')), 'doctor');
wait_for($node, 'clinic', 'SELECT count(*) = 2 FROM apm.cloud_record', 'what a new session seals with new keys is opened by workers that have not been told');
is(query($node, 'clinic', q(SELECT count(*) FROM apm_fetch('p1')), 'doctor'), '2', 'and reads');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.quarantine'), '0', 'nothing was quarantined');
is(rotate($_->[0]), $_->[1], "$_->[0]: in use for everybody") foreach @handmade;

# --- keys that sign
my $node_key = q(SELECT encode(m.id, 'hex') FROM apm.member AS m WHERE m.member = 1 AND m.ended_height IS NULL);
my $first = query($node, 'clinic', $node_key);
$node->safe_psql('clinic', q(BEGIN; SELECT apm_rotate_key('node-signing'); ROLLBACK));
is(generations('node-signing'), '1, 2 active', 'a successor was made');
query($node, 'clinic', q(SELECT apm_submit('p1', '{"a": 2}')), 'doctor');
wait_for($node, 'clinic', $drained, 'mining goes on');
is(query($node, 'clinic', $node_key), $first, 'by the key in force, which is still the first');
is(rotate('node-signing'), '2', 'asked for again, the same generation is sent');
wait_for($node, 'clinic', $in_force, 'and comes into force');
isnt(query($node, 'clinic', $node_key), $first, 'as another key');
is(query($node, 'clinic', q(SELECT items_done, items_total, finished_at IS NOT NULL FROM apm.rotation WHERE kind = 'node-signing')),
	'1|1|t', 'which apm.rotation shows');
is(query($node, 'clinic', q(SELECT apm_rotate_key('apm-signing')), 'boss'), '2', 'the origin\'s key, by apm_admin');
wait_for($node, 'clinic', $in_force, 'comes into force');
query($node, 'clinic', q(SELECT apm_submit('p1', '{"a": 3}')), 'doctor');
wait_for($node, 'clinic', $drained, 'a record by the new keys');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.refused'), '0', 'nothing was refused');
is(query($node, 'clinic', 'SELECT ok FROM apm_verify()'), 't', 'the ledger verifies');
is(query($node, 'clinic', 'SELECT count(*) FROM apm_fetch(\'p1\')', 'doctor'), '4', 'all records read');

retire_refused('node-signing', 2, '55006', qr/it is the newest/, 'the key in force stays');
$node->safe_psql('clinic', q(BEGIN; SELECT apm_rotate_key('node-signing'); ROLLBACK));
retire_refused('node-signing', 2, '55006', qr/was not replaced here|in force/, 'also when a newer one is there that the chain does not have');
retire_refused('apm-signing', 1, '55006', qr/still be on its way.*until/s, 'an origin\'s old key stays for a day');
retire('node-signing', 1);
is(generations('node-signing'), '1 public, 2, 3 active', 'a node\'s goes at once');
is(query($node, 'clinic', 'SELECT ok FROM apm_verify()'), 't', 'what it signed verifies without it');

# a day of the chain's later; the row is put back, for the ledger says something else
$node->safe_psql('clinic', q(ALTER TABLE apm.member DISABLE TRIGGER USER;
	UPDATE apm.member SET ended_time = ended_time - 86400000000 WHERE member = 2 AND ended_height IS NOT NULL;));
my @triggers = split /\n/, query($node, 'clinic', q(SELECT tgname FROM pg_trigger WHERE tgrelid = 'apm.member'::regclass));
my $enable = 'ALTER TABLE apm.member ' . join(', ', map { "ENABLE ALWAYS TRIGGER $_" } @triggers);
$node->safe_psql('clinic', $enable);
retire('apm-signing', 1);
is(generations('apm-signing'), '1 public, 2 active', 'then it goes');
$node->safe_psql('clinic', q(ALTER TABLE apm.member DISABLE TRIGGER USER;
	UPDATE apm.member SET ended_time = ended_time + 86400000000 WHERE member = 2 AND ended_height IS NOT NULL;) . $enable);
is(query($node, 'clinic', 'SELECT ok FROM apm_verify()'), 't', 'the ledger verifies');

# --- a command in the place of files
my $vault = $node->basedir . '/vault';
mkdir($vault, 0700);
foreach my $file (grep { /\.(?:key|pem)$/ && !/\.pub\.pem$/ } slurp_dir($keys))
{
	rename("$keys/$file", "$vault/$file") or die $!;
}
foreach my $retired (qw(network-server.1.pem apm-wrapping.1.key apm-wrapping.2.key apm-envelope.1.pem node-signing.1.pem apm-signing.1.pem))
{
	spew("$vault/$retired", "retired\n");
}
set_and_reload($node, 'apm.secret_command', "cat $vault/%k");
rotate_refused('network-server', '55000', qr/come from apm\.secret_command.*network-server\.5\.pem/s, 'no key is made where a command gives them');
ok(!-e "$keys/network-server.5.pem", 'nor a file');
make_pair("$vault/network-server.5.pem");
is(rotate('network-server'), '5', 'one that was made there begins to be used');
wait_for($node, 'clinic', $drained, 'nothing is on its way');
retire_refused('network-server', 3, '55000', qr/still has generation 3.*retired.*network-server\.3\.pem/s, 'one that the command still has is not retired');
spew("$vault/network-server.3.pem", "retired\n");
retire('network-server', 3);
pass('and is, when the command says so');
query($node, 'clinic', q(SELECT apm_submit('p1', '{"a": 4}')), 'doctor');
wait_for($node, 'clinic', $drained, 'a record goes through with the new key');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.quarantine'), '0', 'nothing was quarantined');

# --- a base that is half loaded
$node->safe_psql('clinic', 'INSERT INTO apm.load_notice (relation) VALUES (\'pool\')');
rotate_refused('network-server', '55000', qr/was loaded/, 'no key changes where a load is noticed');
retire_refused('apm-envelope', 2, '55000', qr/was loaded/, 'nor goes one');

$node->stop;
done_testing();

sub make_pair
{
	system_or_bail('openssl', 'genpkey', '-quiet', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', $_[0]);
	chmod(0600, $_[0]);
	return;
}

sub spew
{
	my ($path, $content) = @_;
	open(my $file, '>:raw', $path) or die "$path: $!";
	print $file $content;
	close($file);
	chmod(0600, $path);
	return;
}
