# apm_verify() finds what a superuser did to the ledger behind the guards' backs: every
# column of every ledger table changed, rows removed, added and swapped.  Each change is
# made in a transaction that is rolled back, with the guards off.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTamper;
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('verifier', setup => 0);
my $module = "$FindBin::RealBin/../modules/test_chain";

sub sql { return query($node, 'clinic', @_) }

# Where there is no chain yet that is an error, behind which the session goes on.
fails_with($node, 'clinic', 'SELECT apm_verify()', 'AP011', qr/takes part in no chain/, 'there is no chain to verify');
my (undef, $rest) = $node->psql('clinic', "SELECT apm_verify();\nSELECT 'goes on';", on_error_stop => 0);
is($rest, 'goes on', 'nothing of a verification that failed is left in the session');

# Two blocks after genesis: registrations, then records, an amendment, a changed profile,
# queries allowed and refused, and other refusals.
sql(qq(
	CREATE FUNCTION patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL) RETURNS uuid
		AS '$module', 'test_pool_patient' LANGUAGE c;
	CREATE FUNCTION record(text, uuid, uuid DEFAULT NULL, bytea DEFAULT '\\x01', integer DEFAULT 4, text DEFAULT NULL)
		RETURNS uuid AS '$module', 'test_pool_primary' LANGUAGE c;
	CREATE FUNCTION reads(text, integer DEFAULT 0, integer DEFAULT 4, text DEFAULT NULL) RETURNS uuid
		AS '$module', 'test_pool_query' LANGUAGE c;
	SELECT apm_setup(8);));
sql(q(SELECT patient('p' || g) FROM generate_series(1, 4) AS g));
wait_for($node, 'clinic', 'SELECT count(*) = 4 FROM apm.ledger_patient', 'patients are registered');
sql(q(SELECT record('p1', '00000000-0000-7000-8000-000000000001'), record('p2', '00000000-0000-7000-8000-000000000002'),
	record('p9', '00000000-0000-7000-8000-000000000009'), patient('p1', 2), reads('p1'), reads('p1', 0, 2),
	patient('q', 1, 2, 'signature'), patient('q', 1, 2, 'template'),
	record('p1', '00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000001')));
wait_for($node, 'clinic', 'SELECT count(*) = 3 FROM apm.ledger_record', 'records are in the ledger');
sql(q(SELECT patient('p1', 3), record('p4', '00000000-0000-7000-8000-000000000004')));
wait_for($node, 'clinic', 'SELECT count(*) = 4 FROM apm.ledger_record', 'and one more');

is( sql(q(SELECT verdict, kind, rule, count(*) FROM apm.ledger WHERE height > 0 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3)),
	join("\n",
		'refused|patient|signature|1', 'refused|primary|patient|1', 'refused|query|actor|1', 'refused||template|1',
		'valid|patient||6', 'valid|primary||4', 'valid|query||1'),
	'the contract judges each by its rules');
is(sql('SELECT ok, fault IS NULL, not_rerun FROM apm_verify()'), 't|t|3', 'the ledger verifies, but for what was not kept');
foreach my $part ('0, 1', '1, 1', '2, 2', '2, NULL', '3, NULL')
{
	is(sql("SELECT ok, fault FROM apm_verify($part)"), 't|', "heights $part verify, too");
}
foreach my $part ('0, 1000', '1000, 1000', '1000, NULL')
{
	is(sql("SELECT ok, height = (SELECT max(height) + 1 FROM apm.block), fault FROM apm_verify($part)"),
		'f|t|the chain ends before this block', "heights $part are not there to verify");
}
fails_with($node, 'clinic', 'SELECT apm_verify(2, 1)', '22023', qr/heights are out of order/, 'heights the wrong way round');

sub finds { return finds_tampering($node, 'clinic', @_) }

is( sql('BEGIN; ALTER TABLE apm.block DISABLE TRIGGER ALL; UPDATE apm.block SET header = ' . flip('header', 200)
		  . ' WHERE height = 1; SELECT height FROM apm.block_info WHERE NOT hash_fits; ROLLBACK'),
	'1', "pgcrypto's digest of a changed header is another one");

# --- block: every field of the header
my $header = '(format|hash|chain|height|link|history|time|difficulty|work|count|signer|signature|root|contract)';
my %fields = (
	'tag' => 0, 'version' => 1, 'chain' => 2, 'height' => 41, 'previous' => 42, 'root' => 74, 'count' => 109,
	'history' => 110, 'contract' => 142, 'time' => 181, 'difficulty' => 185, 'node' => 186, 'nonce' => 225);
foreach my $field (sort keys %fields)
{
	finds('UPDATE apm.block SET header = ' . flip('header', $fields{$field}) . ' WHERE height = 1',
		$header, "a changed $field");
	# the same with a hash that fits
	finds('UPDATE apm.block SET header = ' . flip('header', $fields{$field}) . ' WHERE height = 2;'
		. 'UPDATE apm.block SET hash = sha256(sha256(header)) WHERE height = 2',
		$header, "a changed $field under a hash that fits");
}
finds('UPDATE apm.block SET hash = ' . flip('hash', 3) . ' WHERE height = 1', 'hash', 'a changed hash');
finds('UPDATE apm.block SET signature = ' . flip('signature', 9) . ' WHERE height = 1',
	'signature', 'a changed signature');
finds('UPDATE apm.block SET height = 7 WHERE height = 1', 'height', 'a changed height');
finds('UPDATE apm.block SET height = 1 WHERE height = 2', 'height', 'two of a height');
finds('DELETE FROM apm.block WHERE height = 1', 'height', 'a missing block');
finds('DELETE FROM apm.block WHERE height = 0', 'height', 'a missing genesis');
finds('DELETE FROM apm.block', 'height', 'no block at all');
finds(q(INSERT INTO apm.block SELECT sha256(hash), height + 1, header, signature FROM apm.block WHERE height = 3),
	'hash', 'a block beyond the tip');
finds(q(UPDATE apm.block SET height = 3 - height WHERE height IN (1, 2)), 'height', 'swapped blocks');

# --- leaf
finds('UPDATE apm.leaf SET block = ' . flip('block', 0) . ' WHERE kind = 3', 'position', 'a leaf of no block');
finds('UPDATE apm.leaf SET position = 100 WHERE kind = 3 AND rule = 0', 'position', 'a changed position');
finds(q(UPDATE apm.leaf AS l SET position = 101 - position FROM apm.block AS b WHERE b.hash = l.block AND b.height = 2 AND position < 2;
	UPDATE apm.leaf SET position = position - 100 WHERE position >= 100), 'root', 'swapped positions');
finds(q(UPDATE apm.leaf SET tid = gen_random_uuid() WHERE kind = 3 AND rule = 0), 'missing', 'a changed Tid');
finds(q(UPDATE apm.leaf SET tid = gen_random_uuid() WHERE kind = 2 AND rule <> 0), 'root', 'a changed Tid of a refused one');
finds('UPDATE apm.leaf SET kind = 1 WHERE kind = 2 AND rule = 0', 'kind', 'a changed kind');
finds('UPDATE apm.leaf SET rule = 9 WHERE kind = 2 AND rule = 0', 'unwanted', 'a refusal made up');
finds('UPDATE apm.leaf SET rule = 0 WHERE kind = 3', 'root', 'a refusal hidden');
finds('UPDATE apm.leaf SET rule = 3 WHERE rule = 4', 'root', 'a refusal with another rule');
finds('UPDATE apm.leaf SET rule = 99 WHERE rule = 4', 'rule', 'a refusal with no rule');
finds('UPDATE apm.leaf SET leaf = ' . flip('leaf', 31) . ' WHERE kind = 2', 'leaf', 'a changed leaf');
finds('DELETE FROM apm.leaf WHERE kind = 3', 'position', 'a missing leaf');
finds(q(INSERT INTO apm.leaf SELECT sha256(block), position, tid, kind, rule, leaf FROM apm.leaf WHERE kind = 3),
	'derived: apm.leaf', 'leaves of no block');

# --- body
finds(q(UPDATE apm.body SET tid = gen_random_uuid() WHERE tid = (SELECT tid FROM apm.leaf WHERE kind = 3 AND rule = 0)),
	'missing', 'a body of another Tid');
foreach my $column (qw(nonce transaction proof))
{
	my $expected = $column eq 'proof' ? '(verdict|kind)' : 'leaf';

	finds("UPDATE apm.body SET $column = " . flip($column, 12), $expected, "a changed $column in every body");
	finds("UPDATE apm.body SET $column = " . flip($column, 12)
		. ' WHERE tid = (SELECT max(tid::text)::uuid FROM apm.ledger_record)', $expected, "a changed $column in one");
	finds("UPDATE apm.body SET $column = $column || '\\x00' WHERE tid IN (SELECT tid FROM apm.ledger_record)",
		'(body|leaf|kind)', "a longer $column") if $column ne 'nonce';
}
finds(q(DELETE FROM apm.body WHERE tid IN (SELECT tid FROM apm.ledger_record WHERE apid = 'p4')), 'missing', 'a missing body');
finds(q(INSERT INTO apm.body SELECT gen_random_uuid(), nonce, transaction, proof FROM apm.body LIMIT 1), 'derived: apm.body', 'a body too many');
finds(q(UPDATE apm.body AS b SET nonce = o.nonce, transaction = o.transaction, proof = o.proof FROM apm.body AS o
	WHERE b.tid = (SELECT tid FROM apm.ledger_record WHERE apid = 'p2') AND o.tid = (SELECT tid FROM apm.ledger_record WHERE apid = 'p4')),
	'leaf', 'one body in the place of another');

# --- derived
finds('UPDATE apm.tip SET height = 2', 'tip', 'a tip too low');
finds('UPDATE apm.tip SET height = 4', 'tip', 'a tip too high');
finds('UPDATE apm.tip SET hash = ' . flip('hash', 0), 'tip', q(the tip's hash));
finds('UPDATE apm.tip SET frontier = ' . flip('frontier', 20), 'tip', q(the tip's frontier));
finds('DELETE FROM apm.tip', 'tip', 'no tip');
finds('DELETE FROM apm.chain', 'derived: apm.chain', 'no chain');
finds('UPDATE apm.chain SET chain = ' . flip('chain', 0), 'derived: apm.chain', 'another chain');
finds("UPDATE apm.chain SET $_ = " . flip($_, 0), 'derived: apm.chain', "another $_") foreach qw(node origin);
finds('UPDATE apm.member SET id = ' . flip('id', 0), 'derived: apm.member', q(a member's id));
finds('UPDATE apm.member SET member = 3 - member', 'derived: apm.member', 'what members are');
finds('UPDATE apm.member SET height = 1', 'derived: apm.member', q(a member's height));
finds('DELETE FROM apm.member WHERE member = 1', 'derived: apm.member', 'a missing member');
my %patient = (
	apid => q('px'), origin => flip('origin', 0), version => 'version + 1', profile => flip('profile', 0),
	height => 'height + 1', position => 'position + 1', changed_height => 'changed_height + 1', erased_height => '2');
finds("UPDATE apm.ledger_patient SET $_ = $patient{$_} WHERE apid = 'p3'", 'derived', "a patient's $_")
  foreach sort keys %patient;
finds("UPDATE apm.ledger_patient SET $_ = $patient{$_} WHERE apid = 'p1'", 'derived', "a changed patient's $_")
  foreach sort keys %patient;
finds(q(DELETE FROM apm.ledger_patient WHERE apid = 'p3'), 'derived: apm.ledger_patient', 'a missing patient');
finds(q(INSERT INTO apm.ledger_patient SELECT 'px', origin, version, profile, height, position, changed_height FROM apm.ledger_patient WHERE apid = 'p3'),
	'derived: apm.ledger_patient: it says more', 'a patient too many');
my %record = (
	rid => 'gen_random_uuid()', apid => q('p3'), tid => 'gen_random_uuid()', height => 'height + 1',
	position => 'position + 1', leaf => flip('leaf', 0), superseded_by => 'gen_random_uuid()');
finds("UPDATE apm.ledger_record SET $_ = $record{$_} WHERE apid = 'p2'", 'derived: apm.ledger_record', "a record's $_")
  foreach sort keys %record;
finds(q(UPDATE apm.ledger_record SET superseded_by = NULL), 'derived: apm.ledger_record', 'an amendment forgotten');
finds(q(DELETE FROM apm.ledger_record WHERE apid = 'p2'), 'derived: apm.ledger_record', 'a missing record');
finds(q(INSERT INTO apm.ledger_record SELECT gen_random_uuid(), apid, tid, height, position, leaf FROM apm.ledger_record LIMIT 1),
	'derived: apm.ledger_record: it says more', 'a record too many');

# --- each byte and each bit of a number: what apm_verify() does not find, of changes made one at a time
my @columns = (
	[ 'block', 'bytea', 'height = 2', qw(hash header signature) ], [ 'block', 'bigint', 'height = 2', 'height' ],
	[ 'leaf', 'bytea', 'rule IN (0, 4)', 'leaf' ], [ 'leaf', 'smallint', 'true', qw(kind rule) ], [ 'leaf', 'integer', 'position = 1', 'position' ],
	[ 'body', 'bytea', q(tid IN (SELECT tid FROM apm.ledger_record WHERE height = (SELECT max(height) FROM apm.ledger_record))), qw(nonce transaction proof) ],
	[ 'tip', 'bytea', 'true', qw(hash frontier) ], [ 'tip', 'bigint', 'true', 'height' ], [ 'chain', 'bytea', 'true', qw(chain node origin) ],
	[ 'member', 'bytea', 'true', qw(id spki) ], [ 'member', 'smallint', 'true', 'member' ], [ 'member', 'bigint', 'true', 'height' ],
	[ 'ledger_patient', 'bytea', q(apid IN ('p1', 'p3')), qw(origin profile) ], [ 'ledger_patient', 'integer', q(apid IN ('p1', 'p3')), qw(version position) ],
	[ 'ledger_patient', 'bigint', q(apid IN ('p1', 'p3')), qw(height changed_height) ],
	[ 'ledger_record', 'bytea', q(apid IN ('p1', 'p2')), 'leaf' ], [ 'ledger_record', 'bigint', q(apid IN ('p1', 'p2')), 'height' ],
	[ 'ledger_record', 'integer', q(apid IN ('p1', 'p2')), 'position' ]);
# the records of one statement share a signature: their proofs have paths
sql('CREATE ROLE doctor; GRANT apm_clinician TO doctor; CREATE ROLE clerk IN ROLE apm_registrar');
query($node, 'clinic', q(SELECT apm_register_patient('AF89XI96FD24', '{"Firstname": "Ahmed", "Lastname": "Ali"}')), 'clerk');
query($node, 'clinic', q(INSERT INTO apm.patient_record (pid, record) SELECT 'AF89XI96FD24', '{"Temperature": 38}' FROM generate_series(1, 3)), 'doctor');
wait_for($node, 'clinic', 'SELECT count(*) = 3 FROM apm.ledger_record AS r WHERE height = (SELECT max(height) FROM apm.ledger_record)', 'three records in one statement');
foreach my $set (@columns)
{
	my ($table, $type, $where, @names) = @$set;

	finds_every_change($node, 'clinic', $table, $_, $type, $where) foreach @names;
}
finds(q(UPDATE apm.body SET proof = set_byte(proof, 73, 4) WHERE get_byte(proof, 73) = 3 AND get_byte(proof, 69) = 0),
	'verdict', 'a statement of three said to have had four');
foreach my $column (qw(origin profile))
{
	finds("UPDATE apm.ledger_patient SET $column = substring($column, 2) WHERE apid = 'p3'", '(derived|row)', "a patient's $column cut short");
}
finds('UPDATE apm.member SET spki = substring(spki, 2)', 'row', q(a member's key cut short));

# --- the place of the first fault
is( sql(q(BEGIN; ALTER TABLE apm.body DISABLE TRIGGER ALL;
		UPDATE apm.body SET nonce = ) . flip('nonce', 0) . q( WHERE tid IN (SELECT tid FROM apm.ledger_record WHERE height = 2);
		SELECT (v.height, v.position) = (SELECT r.height, min(r.position) FROM apm.ledger_record AS r WHERE r.height = 2 GROUP BY 1)
			FROM apm_verify() AS v; ROLLBACK)),
	't', 'the first fault is named with its place');
is(sql('SELECT ok FROM apm_verify()'), 't', 'all of this was rolled back');

# --- rows that others add by inheritance are not the ledger's
sql(q(CREATE TABLE more_blocks () INHERITS (apm.block); CREATE TABLE more_leaves () INHERITS (apm.leaf);
	INSERT INTO more_blocks SELECT sha256(hash), height + 1, header, signature FROM ONLY apm.block;
	INSERT INTO more_leaves SELECT * FROM ONLY apm.leaf));
is(sql('SELECT ok FROM apm_verify()'), 't', 'an inheriting table adds nothing to the ledger');
sql(q(SELECT patient('p5')));
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.ledger_patient WHERE apid = 'p5'), 'nor to the chain');

done_testing();
