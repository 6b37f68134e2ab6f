# Erasures as the chain sees them: their bodies go with the block, what stays is enough to judge everybody
# else's transactions once more, and apm_verify() finds every change of what is kept of them, of a
# body that is put back, and of keys that replaced others.  Each change is made in a transaction that is rolled back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTamper;
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('forgetful', setup => 0);
my $module = "$FindBin::RealBin/../modules/test_chain";
my ($admin, $registrar, $clinician) = (1, 2, 4);
my $objection = 8;
my $token = '\x' . '0f' x 16;

sub sql { return query($node, 'clinic', @_) }
sub finds { return finds_tampering($node, 'clinic', @_) }

# Puts transactions into the pool in one statement, so that they come into one block; what they answered, in order.
sub mine
{
	my ($name, @calls) = @_;
	my $before = sql('SELECT count(*) FROM apm.leaf');
	my $answer = sql('SELECT ' . join(', ', @calls));

	poll($node, 'clinic', "SELECT count(*) = $before + " . scalar(@calls) . ' FROM apm.leaf') or BAIL_OUT("no block: $name");
	return split(/\|/, $answer);
}

sub verdicts
{
	my (@tids) = @_;
	return join(' ', map { sql("SELECT coalesce(rule, verdict) FROM apm.ledger WHERE tid = '$_'") } @tids);
}

sub rid { return sprintf('00000000-0000-7000-8000-%012d', @_) }
sub patient { return sprintf(q(pool_patient('%s', %d)), @_) }
sub record { return sprintf(q(pool_record('%s', '%s', %s, '\x01', 4, NULL, '%s', '%s')), $_[0], rid($_[1]), $_[2] // 'NULL', $token, $_[3] // 'doc') }
sub ask { return sprintf(q(pool_ask('doc', 4, 1, '%s', 0, 0, NULL, NULL)), @_) }
sub erase { return sprintf(q(pool_erasure('%s', %d, %d)), $_[0], $_[1] // $objection, $_[2] // $registrar) }

# An item that adds a site rule: a counter stands below so many.
sub rule
{
	my ($name, $kind, $counter, $fewer) = @_;
	return sprintf(q('\x05' || int4send(%d) || '%s'::bytea || '\x%02x' || int4send(16) || '\x0610%02x' || int4send(0) || '\x0c' || int8send(%d)),
		length($name), $name, $kind, $counter, $fewer);
}

sql(qq(
	CREATE FUNCTION pool_patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL) RETURNS uuid
		AS '$module', 'test_pool_patient' LANGUAGE c;
	CREATE FUNCTION pool_record(text, uuid, uuid, bytea, integer, text, bytea, text) RETURNS uuid
		AS '$module', 'test_pool_primary' LANGUAGE c;
	CREATE FUNCTION pool_ask(text, integer, integer, text, integer, integer, uuid, bytea) RETURNS uuid
		AS '$module', 'test_pool_ask' LANGUAGE c;
	CREATE FUNCTION pool_contract(integer, integer, bytea) RETURNS uuid AS '$module', 'test_pool_contract' LANGUAGE c;
	CREATE FUNCTION pool_erasure(text, integer, integer) RETURNS uuid AS '$module', 'test_pool_erasure' LANGUAGE c;
	CREATE FUNCTION drop_body(uuid) RETURNS void AS '$module', 'test_drop_body' LANGUAGE c;
	SELECT apm_setup(8);
	CREATE ROLE clerk IN ROLE apm_registrar));

# Rules whose counters have to be the same when the records are gone.
mine('rules', "pool_contract($admin, 2, " . rule('few-records', 3, 5, 3) . ' || ' . rule('not-busy', 2, 2, 6) . ')');
mine('patients', patient('p1', 1), patient('p2', 1), patient('p3', 1));
my ($first) = mine('a record', record('p1', 1));
is(verdicts(mine('an amendment, a change, a query', record('p1', 2, "'" . rid(1) . "'"), patient('p1', 2), record('p2', 3), ask('p1'))),
	'valid valid valid valid', 'a patient with records');
my @third = mine('a third record', record('p1', 4), ask('p1'), ask('p2'));
is(verdicts(@third), 'valid few-records valid', 'who has too many to be read');
is(sql("SET force_parallel_mode = on; SELECT rule FROM apm.ledger WHERE tid = '$third[1]'"), 'few-records', 'the name of a rule of the chain\'s own, also where several processes are asked');
sql('CREATE TABLE kept AS SELECT * FROM apm.body');
my $own = sql('SELECT string_agg(tid::text, $$,$$ ORDER BY tid) FROM (SELECT tid FROM apm.ledger_record WHERE apid = $$p1$$
	UNION ALL SELECT tid FROM apm.ledger_profile WHERE apid = $$p1$$) AS own');

# --- an erasure
is(verdicts(mine('not like this', erase('p1', 1), erase('p1', $objection, $clinician), erase('nobody'))), 'erasure actor patient',
	'not for an emergency, not by a clinician, not of nobody');
my ($erasure) = mine('the erasure', erase('p1'));
is(verdicts($erasure), 'valid', 'the patient is erased');
is(sql('SELECT string_agg(tid::text, $$,$$ ORDER BY tid) FROM apm.ledger_void'), $own, 'all that he had is void');
is(sql("SELECT string_agg(tid::text, ',' ORDER BY tid) FROM apm.ledger WHERE erased_by = '$erasure'"), $own, 'which the ledger shows');
is( sql(q(SELECT (SELECT count(*) FROM apm.body JOIN apm.ledger_void USING (tid)), (SELECT count(*) FROM apm.ledger_record WHERE apid = 'p1'),
		(SELECT count(*) FROM apm.ledger_profile WHERE apid = 'p1'), (SELECT count(*) FROM apm.ledger_token WHERE rid IN
			('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000004')))),
	'0|0|0|0', 'bodies, records, profiles and tokens are gone');
is(sql(q(SELECT version, profile = decode(repeat('00', 32), 'hex'), erased_height = (SELECT max(height) FROM apm.block) FROM apm.ledger_patient WHERE apid = 'p1')),
	'2|t|t', 'that he was there, and is erased, stays');
is(sql(q(SELECT count(*) FROM apm.ledger_query WHERE apid = 'p1')), '2', 'and who asked for him');
is(verdicts(mine('after it', erase('p1'), record('p1', 5), ask('p1'), patient('p1', 3), patient('p1', 1))), 'erased erased erased erased patient',
	'nothing is his any more');
is(verdicts(mine('his Rid', record('p2', 1, undef, 'other'))), 'valid', 'a Rid of his is as if never seen');

# --- in one block: registered, recorded, erased, and the Rid used again
my @block = mine('one block', patient('p7', 1), record('p7', 7, undef, 'other'), erase('p7'), record('p3', 7, undef, 'other'), ask('p7'));
is(verdicts(@block), 'valid valid valid valid erased', 'registered, recorded, erased, and his Rid used again in one block');
is(sql("SELECT apid FROM apm.ledger_record WHERE rid = '" . rid(7) . "'"), 'p3', 'the Rid is of the other patient now');
is(sql("SELECT count(*) FROM apm.ledger_token WHERE rid = '" . rid(7) . "'"), '1', 'with its tokens');
is(verdicts(mine('counters', record('p3', 8), record('p3', 9), record('p3', 10))), 'valid valid not-busy', 'a void counts for its actor still');

# --- keys that follow one another
my $homes = sql(q(SELECT encode(node, 'hex'), encode(origin, 'hex') FROM apm.chain));
foreach my $kind (qw(node-signing apm-signing node-signing))
{
	sql("SELECT apm_rotate_key('$kind')");
	wait_for($node, 'clinic', q(SELECT count(*) = 0 FROM apm.rotation WHERE finished_at IS NULL), "$kind is replaced");
	is(verdicts(mine('with it', patient("with-$kind-" . sql('SELECT count(*) FROM apm.member'), 1))), 'valid', 'and the next one signs');
}
is(sql(q(SELECT encode(node, 'hex'), encode(origin, 'hex') FROM apm.chain)), $homes, 'the chain knows both by their first keys');
is(sql(q(SELECT count(*), count(ended_height), count(DISTINCT home) FROM apm.member)), '5|3|2', 'as whose keys it knows the others');
is(sql(q(SELECT count(DISTINCT node) FROM apm.block_info)), '3', 'three of which have signed blocks');
is(sql(q(SELECT count(DISTINCT origin) FROM apm.ledger_patient)), '1', 'patients are of one origin');
is(verdicts(mine('a change', patient('p2', 2), erase('p3'))), 'valid valid', 'who can change and erase them with its new key');

# --- all of it verifies, whole and in every part
my $voided = sql('SELECT count(*) FROM apm.ledger_void');
is(sql('SELECT ok, rule, fault, erased FROM apm_verify()'), "t|||$voided", 'the ledger verifies');
is(sql('SET force_parallel_mode = on; SELECT ok, rule, fault, erased FROM apm_verify()'), "t|||$voided", 'by several backends, too');
is( sql(q(SELECT bool_and(v.ok), string_agg(DISTINCT v.fault, ';') FROM apm.block AS a JOIN apm.block AS b ON a.height <= b.height,
		LATERAL apm_verify(a.height, b.height) AS v)),
	't|', 'every part of it, too');

# --- what is done to the ledger
my $void = "tid = '$first'";
my $named = "(SELECT tid FROM apm.ledger_void)";
finds("INSERT INTO apm.body SELECT * FROM kept WHERE $void", 'unwanted', 'a body that is put back');
finds("INSERT INTO apm.body SELECT * FROM kept WHERE $void; DELETE FROM apm.ledger_void WHERE $void", 'unwanted', 'with the row that says it is void gone');
finds("INSERT INTO apm.body SELECT * FROM kept WHERE tid = '$third[0]'; DELETE FROM apm.ledger_void WHERE tid = '$third[0]';
	INSERT INTO apm.ledger_token VALUES ('$token', '" . rid(4) . "');
	INSERT INTO apm.ledger_record SELECT '" . rid(4) . "', 'p1', l.tid, b.height, l.position, l.leaf
		FROM apm.leaf AS l JOIN apm.block AS b ON b.hash = l.block WHERE tid = '$third[0]'", 'unwanted', 'and with all that follows from it');
finds(q(DELETE FROM apm.body WHERE tid = (SELECT max(tid::text)::uuid FROM apm.ledger_record WHERE apid = 'p2')), 'missing', 'a body that nothing voided');
finds(qq(WITH gone AS (DELETE FROM apm.body WHERE tid = (SELECT max(tid::text)::uuid FROM apm.ledger_record WHERE apid = 'p2') RETURNING tid)
	INSERT INTO apm.ledger_void SELECT r.tid, r.apid, 2, '\\x00', r.height, r.position, r.leaf, '$erasure', (SELECT erasure_height FROM apm.ledger_void WHERE $void)
	FROM apm.ledger_record AS r JOIN gone USING (tid)), 'missing', 'nor one that is said to be void');
finds("DELETE FROM apm.body WHERE tid = '$erasure'", 'missing', 'an erasure that is gone');
finds("UPDATE apm.body SET $_ = " . flip($_, 12) . " WHERE tid = '$erasure'", 'missing', "an erasure with another $_") foreach qw(nonce transaction);
finds("UPDATE apm.body SET proof = " . flip('proof', 12) . " WHERE tid = '$erasure'", 'verdict', 'an erasure that is not signed');
finds("UPDATE apm.leaf SET rule = 24 WHERE tid = '$erasure'", 'missing', 'an erasure that is said to be refused');
finds("UPDATE apm.leaf SET tid = gen_random_uuid() WHERE $void", 'tid', 'another Tid of what is void');
finds("UPDATE apm.leaf SET kind = 1 WHERE $void", 'kind', 'another kind');
finds("UPDATE apm.leaf SET rule = 24 WHERE $void", 'root', 'said to be refused');
finds("UPDATE apm.leaf SET leaf = " . flip('leaf', 3) . " WHERE $void", 'missing', 'another leaf');

# An erasure behind the end of a part is held against its block.
my $part = sql("SELECT height FROM apm.ledger_void WHERE $void");
foreach my $change (
	'UPDATE apm.block SET signature = ' . flip('signature', 9) . ' WHERE height = (SELECT erasure_height FROM apm.ledger_void WHERE ' . $void . ')',
	"UPDATE apm.leaf SET rule = 5 WHERE kind = 5 AND rule <> 0 AND block = (SELECT block FROM apm.leaf WHERE tid = '$erasure')",
	"UPDATE apm.leaf SET leaf = " . flip('leaf', 3) . " WHERE tid = '$erasure'")
{
	my $found = sql("BEGIN; ALTER TABLE apm.block DISABLE TRIGGER ALL; ALTER TABLE apm.leaf DISABLE TRIGGER ALL; $change;
		SELECT ok, rule FROM apm_verify($part, $part); ROLLBACK");
	my $applies = $change =~ /rule = 5/ ? 't|' : 'f|missing';
	is($found, $applies, 'an erasure behind the part that is verified');
}

# --- what is done to what follows from it
my %spoilt = (
	ledger_void => {
		where => $void,
		tid => 'gen_random_uuid()', apid => q('p2'), kind => '1', actor => flip('actor', 0), height => 'height + 1', position => 'position + 1',
		leaf => flip('leaf', 0), erasure => 'gen_random_uuid()', erasure_height => 'erasure_height + 1' },
	ledger_profile => {
		where => q(apid = 'p2' AND version = 1),
		apid => q('p3'), version => '3', tid => 'gen_random_uuid()', height => 'height + 1', position => 'position + 9', leaf => flip('leaf', 0),
		profile => flip('profile', 0) },
	ledger_patient => {
		where => q(apid = 'p1'),
		apid => q('px'), origin => flip('origin', 0), version => '3', profile => flip('profile', 0), height => 'height + 1', position => 'position + 1',
		changed_height => 'changed_height + 1', erased_height => 'erased_height + 1' },
	member => {
		where => 'ended_height IS NOT NULL AND height > 0',
		id => flip('id', 0), member => '3 - member', spki => flip('spki', 90), height => 'height + 1', home => flip('home', 0),
		ended_height => 'ended_height + 1', ended_time => 'ended_time + 1' });
my %added = (
	ledger_void => qq(SELECT gen_random_uuid(), apid, kind, actor, height, position, leaf, erasure, erasure_height FROM apm.ledger_void WHERE $void),
	ledger_profile => q(SELECT apid, 9, tid, height, position, leaf, profile FROM apm.ledger_profile WHERE apid = 'p2' AND version = 1),
	ledger_patient => q(SELECT 'px', origin, version, profile, height, position, changed_height, erased_height FROM apm.ledger_patient WHERE apid = 'p1'),
	member => q(SELECT sha256(id), member, spki, height, home, ended_height, ended_time FROM apm.member WHERE ended_height IS NOT NULL LIMIT 1));
finds_spoilt_rows($node, 'clinic', \%spoilt, \%added);
finds('DELETE FROM apm.ledger_void', 'derived: apm.ledger_void', 'all voids gone');
finds(q(UPDATE apm.ledger_patient SET erased_height = NULL WHERE apid = 'p1'), 'derived: apm.ledger_patient', 'a patient who is not erased any more');
finds(q(UPDATE apm.ledger_patient SET erased_height = 9 WHERE apid = 'p2'), 'derived', 'a patient who is erased by nothing');
finds(qq(INSERT INTO apm.ledger_void SELECT r.tid, r.apid, 2, '\\x00', r.height, r.position, r.leaf, '$erasure', 9 FROM apm.ledger_record AS r WHERE apid = 'p2'),
	'derived', 'what is there said to be void');
finds_every_change($node, 'clinic', 'ledger_void', $_, 'bytea', $void) foreach qw(leaf actor);
finds_every_change($node, 'clinic', 'ledger_profile', $_, 'bytea', q(apid = 'p2')) foreach qw(leaf profile);
finds_every_change($node, 'clinic', 'member', $_, 'bytea', 'true') foreach qw(id home spki);
finds_every_change($node, 'clinic', 'member', 'ended_time', 'bigint', 'ended_time IS NOT NULL');

# --- profiles
foreach my $n (1, 2)
{
	query($node, 'clinic', qq(SELECT apm_register_patient('pid$n', '{"Firstname": "Amina"}', '{}')), 'clerk');
}
query($node, 'clinic', q(SELECT apm_update_patient('pid1', '{"Firstname": "Amina"}', '{"Age": 40}')), 'clerk');
wait_for($node, 'clinic', q(SELECT count(*) = 3 FROM apm.profile JOIN apm.ledger_profile USING (apid, version)), 'two patients, one of whom has changed');
is(sql('SELECT ok, fault FROM apm_verify()'), 't|', 'the ledger verifies');
finds('UPDATE apm.profile SET sealed = ' . flip('sealed', 30), 'profile', 'a changed profile');
finds('UPDATE apm.profile SET sealed = ' . flip('sealed', 30) . ' WHERE version = 2', 'profile', 'a changed version of one');
finds(q(UPDATE apm.profile AS p SET sealed = o.sealed FROM apm.profile AS o WHERE p.version = 1 AND o.version = 1 AND o.apid <> p.apid), 'profile', 'two profiles swapped');
finds('DELETE FROM apm.profile WHERE version = 2', 'profile: apm.profile', 'a profile that is gone');
finds('UPDATE apm.profile SET version = 3 WHERE version = 2', 'profile: apm.profile', 'a version that is not the one');

# --- the guards
fails_with($node, 'clinic', "DELETE FROM apm.body", 'AP006', qr/"append_only"/, 'nobody deletes a body');
fails_with($node, 'clinic', "SELECT drop_body('$erasure')", 'AP006', qr/"append_only"/, 'nor does our own code, unless it is void');
is(sql("BEGIN; ALTER TABLE apm.body DISABLE TRIGGER ALL; INSERT INTO apm.body SELECT * FROM kept WHERE $void; ALTER TABLE apm.body ENABLE TRIGGER ALL;
		ALTER TABLE apm.body ENABLE ALWAYS TRIGGER body_append_only; SELECT drop_body('$first'); SELECT count(*) FROM apm.body WHERE $void; ROLLBACK") =~ s/^\n//r,
	'0', 'which it may then');
is(sql('SELECT ok, fault FROM apm_verify()'), 't|', 'all of this was rolled back');

done_testing();
