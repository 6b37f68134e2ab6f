# A digest that was kept elsewhere finds what no verification of a ledger alone can find: a tail that was cut off,
# and one that the chain's own node made anew.  And a verification goes on where the last one ended.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTamper;
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', databases => [ 'clinic', 'stranger' ]);
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT apm_clinician TO app; CREATE ROLE clerk IN ROLE apm_registrar');

sub sql { return query($node, 'clinic', @_) }
# What a verification by a digest finds.
sub by_digest
{
	my ($database, $digest) = @_;
	return query($node, $database, "SELECT ok, height, position, rule FROM apm_verify(digest => '$digest')");
}
sub digest { return query($node, $_[0] // 'clinic', 'SELECT apm_digest()') }

# One more block at least.
sub block
{
	my ($database) = @_;
	my $tip = query($node, $database, 'SELECT height FROM apm.tip');

	query($node, $database, q(SELECT apm_submit('p1', '{"n": 1}')), 'app');
	return wait_for($node, $database, "SELECT height > $tip AND NOT EXISTS (SELECT FROM apm.pool) FROM apm.tip", "$database has one more block");
}

query($node, $_, q(SELECT apm_register_patient('p1', '{"Firstname": "First", "Lastname": "Last"}')), 'clerk') foreach qw(clinic stranger);
my @digests = (digest());
foreach (1 .. 4)
{
	block('clinic');
	push @digests, digest();
}

# --- good ones
is(by_digest('clinic', $_), 't|||', 'the ledger has the head of a digest, old or new') foreach @digests;
is(sql("SELECT v.blocks = t.height + 1 FROM apm_verify(digest => '$digests[0]') AS v, apm.tip AS t"), 't', 'all of it is verified, whatever the digest');
is(sql('SELECT apm_verify(NULL::jsonb) IS NULL'), 't', 'no digest, no answer');

# --- what is no digest of this chain
fails_with($node, 'clinic', sprintf(q(SELECT apm_verify(digest => '%s')), digest('stranger')), '22023', qr/of another chain/, 'a digest of another chain');
foreach my $call (sprintf(q(apm_prove_consistency('%s')), digest('stranger')), sprintf(q(apm_prove_consistency('%s', '%s')), $digests[0], digest('stranger')),
	sprintf(q(apm_prove((SELECT min(rid::text)::uuid FROM apm.ledger_record), '%s')), digest('stranger')))
{
	fails_with($node, 'clinic', "SELECT $call", '22023', qr/of another chain/, 'nor is anything proved to it');
}
is( sql(qq(DO \$\$
		DECLARE
			member text;
			was jsonb;
			other jsonb;
		BEGIN
			FOR member, was IN SELECT * FROM jsonb_each('$digests[2]')
			LOOP
				other := CASE jsonb_typeof(was) WHEN 'number' THEN to_jsonb(was::integer + 1)
					ELSE to_jsonb(overlay(was #>> '{}' PLACING CASE WHEN right(was #>> '{}', 1) = '1' THEN '2' ELSE '1' END
						FROM length(was #>> '{}') FOR 1)) END;
				BEGIN
					PERFORM apm_verify(digest => '$digests[2]'::jsonb || jsonb_build_object(member, other));
					RAISE EXCEPTION '% is not looked at', member;
				EXCEPTION WHEN invalid_parameter_value THEN
					NULL;
				END;
			END LOOP;
		END \$\$; SELECT count(*) FROM jsonb_each('$digests[2]'))),
	'9', 'a digest that was altered in any member is refused');

# --- a tail that was cut off cleanly: what a backup from before gives
my $backup = $node->basedir . '/backup.sql';
my $cut = sql('SELECT height FROM apm.tip');
$node->command_ok([ 'pg_dump', '-f', $backup, '-d', $node->connstr('clinic') ], 'a backup');
block('clinic') foreach 1 .. 3;
my $late = digest();
my $height = sql('SELECT height FROM apm.tip');
is(by_digest('clinic', $late), 't|||', 'the ledger grows, and is good');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', $backup, '-d', $node->connstr('copy') ], 'the backup is restored');
is(query($node, 'copy', 'SELECT ok, height FROM apm_verify()'), 't|', 'by itself the shorter ledger verifies');
is(by_digest('copy', $digests[-1]), 't|||', 'as far as it goes it is the same');
is(by_digest('copy', $late), "f|$height||digest", 'the later digest finds that its end is gone');
is(query($node, 'copy', "SELECT fault FROM apm_verify(digest => '$late')"), 'the chain is not the one that the digest was taken of', 'in words');
fails_with($node, 'copy', "SELECT apm_prove_consistency('$late')", 'AP005', qr/does not have the head of the digest/, 'nothing leads from it to this end');
is(query($node, 'copy', "SELECT apm_prove_consistency('$digests[-1]') ->> 'new'"), $cut, 'from an older one it does');

# --- and one that the node itself made anew
$node->safe_psql('postgres', 'DROP DATABASE clinic WITH (FORCE)');
set_and_reload($node, 'apm.databases', 'copy, stranger');
like(query($node, 'copy', 'SELECT apm_accept_rollback(give_up => true)'), qr/wrote a new sign-state/, 'the shorter chain is taken for the one');
wait_for($node, 'copy', q(SELECT refusal IS NULL FROM apm.status WHERE worker = 'apm miner'), 'its node mines');
block('copy') foreach 1 .. $height - $cut + 2;
cmp_ok(query($node, 'copy', 'SELECT height FROM apm.tip'), '>', $height, 'it becomes longer than the other was');
is(query($node, 'copy', 'SELECT ok FROM apm_verify()'), 't', 'by itself it verifies');
is(by_digest('copy', $late), "f|$height||digest", 'the digest finds another block in the place of its own');
is(by_digest('copy', $digests[-1]), 't|||', 'one from before the cut is good');
is( query($node, 'copy', "SELECT ok, fault FROM apm_verify_consistency(jsonb_set(apm_prove_consistency('$digests[-1]'), '{old}', '$height'), '$late', apm_digest())"),
	'f|it does not lead to the digest', 'and no proof of growth can be made up');
fails_with($node, 'copy', "SELECT apm_prove(rid, '$late') FROM apm.ledger_record", 'AP005', qr/does not have the head of the digest/, 'nor one of a record');

# --- digests and proofs of a ledger that was altered
sub tampered { return "BEGIN; ALTER TABLE apm.$_[0] DISABLE TRIGGER ALL; $_[1]; " }
my $record = query($node, 'copy', 'SELECT rid FROM apm.ledger_record ORDER BY height LIMIT 1');
foreach my $change (
	[ 'block', 'UPDATE apm.block SET signature = ' . flip('signature', 5), 'SELECT apm_digest()' ],
	[ 'block', 'UPDATE apm.block SET header = ' . flip('header', 225), 'SELECT apm_digest()' ],
	[ 'block', 'DELETE FROM apm.block WHERE hash = (SELECT hash FROM apm.tip)', 'SELECT apm_digest()' ],
	[ 'member', 'DELETE FROM apm.member WHERE member = 1', 'SELECT apm_digest()' ],
	[ 'tip', 'DELETE FROM apm.tip', 'SELECT apm_digest()' ],
	[ 'body', 'UPDATE apm.body SET nonce = ' . flip('nonce', 0), "SELECT apm_prove('$record')" ],
	[ 'body', 'DELETE FROM apm.body', "SELECT apm_prove('$record')" ],
	[ 'leaf', 'DELETE FROM apm.leaf WHERE kind = 2', "SELECT apm_prove('$record')" ],
	[ 'leaf', "UPDATE apm.leaf SET rule = 6 WHERE kind = 2", "SELECT apm_prove('$record')" ],
	[ 'ledger_record', 'UPDATE apm.ledger_record SET position = 7', "SELECT apm_prove('$record')" ],
	[ 'ledger_record', 'UPDATE apm.ledger_record SET height = height - 1', "SELECT apm_prove('$record')" ],
	[ 'block', 'UPDATE apm.block SET hash = ' . flip('hash', 0) . ' WHERE height = 0', "SELECT apm_prove('$record')" ],
	[ 'block', 'DELETE FROM apm.block WHERE height = 0', "SELECT apm_prove_consistency('$digests[1]')" ])
{
	my ($table, $what, $asked) = @$change;
	fails_with($node, 'copy', tampered($table, $what) . $asked, 'AP005', qr/Run apm_verify\(/, "$what: no digest, no proof");
}

# --- a verification goes on
sub resumed { return query($node, 'copy', 'SELECT ok, blocks, height, rule FROM apm_verify(resume => true)') }
sub verified { return query($node, 'copy', 'SELECT height FROM apm.verified') }
my $tip = query($node, 'copy', 'SELECT height FROM apm.tip');
is(verified(), $tip, 'what was verified whole is remembered');
is(resumed(), 't|0||', 'from there on there is nothing to do');
block('copy');
block('copy');
my $more = query($node, 'copy', 'SELECT height FROM apm.tip') - $tip;
foreach my $part ('SELECT apm_verify(1)', "SELECT apm_verify(0, $tip + 1)", "SELECT apm_verify(resume => true, to_height => $tip + 1)",
	'BEGIN READ ONLY; SELECT apm_verify(); COMMIT', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT apm_verify(); COMMIT')
{
	query($node, 'copy', $part);
	is(verified(), $tip, "what is not whole, or verified where nothing is written, is not remembered: $part");
}
is( query($node, 'copy', tampered('body', 'UPDATE apm.body SET nonce = ' . flip('nonce', 0)
			. " WHERE tid = (SELECT tid FROM apm.ledger_record WHERE rid = '$record')") . 'SELECT ok, blocks FROM apm_verify(resume => true); ROLLBACK'),
	"t|$more", 'a resumed verification looks into new blocks only');
is( query($node, 'copy', tampered('body', 'UPDATE apm.body SET nonce = ' . flip('nonce', 0)
			. ' WHERE tid = (SELECT tid FROM apm.ledger_record ORDER BY height DESC LIMIT 1)') . 'SELECT ok, rule FROM apm_verify(resume => true); ROLLBACK'),
	'f|leaf', 'and finds what is wrong with them');
is( query($node, 'copy', tampered('block', 'UPDATE apm.block SET signature = ' . flip('signature', 3) . ' WHERE height = 1')
		. 'SELECT ok, height, rule FROM apm_verify(resume => true); SELECT height FROM apm.verified; ROLLBACK'),
	"f|1|signature\n$tip", 'and with any header; what fails is not remembered');
is(query($node, 'copy', 'BEGIN; UPDATE apm.verified SET hash = ' . flip('hash', 0) . '; SELECT ok, height, rule FROM apm_verify(resume => true); ROLLBACK'),
	"f|$tip|digest", 'the block that it goes on behind must be the one');
is( query($node, 'copy', 'BEGIN; UPDATE apm.verified SET height = height + 100; SELECT ok, height, rule FROM apm_verify(resume => true); ROLLBACK'),
	'f|' . ($tip + 100) . '|digest', 'and be there');
is(resumed(), "t|$more||", 'it goes on');
is(verified(), $tip + $more, 'and is remembered');
is(query($node, 'copy', 'BEGIN; DELETE FROM apm.verified; SELECT ok, blocks FROM apm_verify(resume => true); ROLLBACK'), 't|' . ($tip + $more + 1), 'or begins at the beginning');
fails_with($node, 'copy', 'SELECT apm_verify(1, resume => true)', '22023', qr/no other beginning/, 'not anywhere else');

# --- how far it is: a verification that takes long, because somebody holds a table
my ($out, $err) = ('', '');
my $holder = $node->background_psql('copy');
$holder->query_safe('BEGIN; LOCK TABLE apm.leaf IN ACCESS EXCLUSIVE MODE');
my $verifier = IPC::Run::start([ 'psql', '-XAtd', $node->connstr('copy'), '-c', 'SELECT ok FROM apm_verify()' ], '>', \$out, '2>', \$err);
wait_for($node, 'postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'apm_verify'
	AND now() - query_start > interval '3 seconds'), 'a verification waits');
$holder->query_safe('COMMIT');
$holder->quit;
$verifier->finish;
is($out, "t\n", 'it ends well');
like($err, qr/^NOTICE:  verified \d+ of @{[$tip + $more + 1]} blocks$/m, 'and has said how far it was');

$node->stop;
done_testing();
