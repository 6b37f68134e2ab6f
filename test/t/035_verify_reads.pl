# What follows from changes of the contract, consents, queries and releases: the contract judges
# by what its own transactions made of it, as of each block, and apm_verify() finds every change of
# the tables that were derived from them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTamper;
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('reader', setup => 0);
my $module = "$FindBin::RealBin/../modules/test_chain";
my ($admin, $registrar, $clinician, $researcher, $auditor) = (1, 2, 4, 16, 32);
my ($records, $history, $search, $match, $export, $emergency) = (1, 2, 3, 4, 5, 6);

sub sql { return query($node, 'clinic', @_) }
sub finds { return finds_tampering($node, 'clinic', @_) }

# Puts transactions into the pool and waits for the block that has them; what they answered, in order.
sub mine
{
	my ($name, @calls) = @_;
	my $before = sql('SELECT count(*) FROM apm.leaf');
	my $answer = sql('SELECT ' . join(', ', @calls));

	poll($node, 'clinic', "SELECT count(*) = $before + " . scalar(@calls) . ' FROM apm.leaf') or BAIL_OUT("no block: $name");
	return split(/\|/, $answer);
}

# What became of a transaction: 'valid' or the rule that refused it.
sub verdict { return sql("SELECT coalesce(rule, verdict) FROM apm.ledger WHERE tid = '$_[0]'") }

# Calls that put something into the pool.
sub text { return defined $_[0] ? "'$_[0]'" : 'NULL' }
sub policy { return sprintf(q(('\x01' || int2send(%d::smallint) || int8send(%d))), @_) }
sub contract { my @items = @_; return sprintf('pool_contract(%d, %d, %s)', $admin, scalar(@items), join(' || ', @items)) }

# A name in an item.
sub name { return sprintf(q((int4send(%d) || '%s'::bytea)), length($_[0]), $_[0]) }
sub drop { return q{('\x08' || } . name($_[0]) . ')' }

# A site rule on transactions of a kind: the counter stood at fewer than so many in the last so many seconds.
sub rule
{
	my ($name, $kind, $counter, $seconds, $fewer) = @_;
	return sprintf(q(('\x05' || %s || '\x%02x' || int4send(16) || '\x0610%02x' || int4send(%d) || '\x0c' || int8send(%d))),
		name($name), $kind, $counter, $seconds, $fewer);
}

sub ask
{
	my ($actor, $roles, $scope, $apid, %more) = @_;
	return sprintf('pool_ask(%s, %d, %d, %s, %d, %d, %s, %s)', text($actor), $roles, $scope, text($apid),
		$more{purpose} // 0, $more{reason} // 0, text($more{basis}), text($more{tokens}));
}

sub consent
{
	my ($actor, $roles, $action, $apid, $grantee, %more) = @_;
	return sprintf('pool_consent(%s, %d, %d, %s, %s, %d, 0, %s)', text($actor), $roles, $action, text($apid), text($grantee),
		$more{purpose} // 0, text($more{reviewed}));
}

my $rids = 0;

sub record
{
	my ($apid, $actor, $tokens) = @_;
	return sprintf(q(pool_record(%s, '00000000-0000-7000-8000-%012d', NULL, '\x01', %d, NULL, %s, %s)), text($apid), ++$rids, $clinician,
		text($tokens), text($actor));
}

sub release
{
	my ($number) = @_;
	return "pool_export('miner', $researcher, 'study', $number, '{}', 7)";
}

sql(qq(
	CREATE FUNCTION pool_patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL) RETURNS uuid
		AS '$module', 'test_pool_patient' LANGUAGE c;
	CREATE FUNCTION pool_record(text, uuid, uuid, bytea, integer, text, bytea, text) RETURNS uuid
		AS '$module', 'test_pool_primary' LANGUAGE c;
	CREATE FUNCTION pool_ask(text, integer, integer, text, integer, integer, uuid, bytea) RETURNS uuid
		AS '$module', 'test_pool_ask' LANGUAGE c;
	CREATE FUNCTION pool_consent(text, integer, integer, text, text, integer, bigint, uuid) RETURNS uuid
		AS '$module', 'test_pool_consent' LANGUAGE c;
	CREATE FUNCTION pool_export(text, integer, text, integer, bytea, bigint) RETURNS uuid
		AS '$module', 'test_pool_export' LANGUAGE c;
	CREATE FUNCTION pool_contract(integer, integer, bytea) RETURNS uuid
		AS '$module', 'test_pool_contract' LANGUAGE c;
	SELECT apm_setup(8);));

# --- the contract as genesis makes it, and its changes
is( sql(q(SELECT string_agg(name || '=' || detail::text || '@' || coalesce(since::text, ''), ' ' ORDER BY name COLLATE "C")
		FROM apm.contract WHERE item = 'policy')),
	'access="clinician"@0 difficulty=8@0 emergency="unless_withdrawn"@ export="unless_withdrawn"@ fetch_cap=1000@ purpose="optional"@0 query_rate=0@',
	'the policies of a new chain, defaults included');
is( sql(q(SELECT item, count(*), min(since), max(since), min(detail::text), string_agg(name, ' ' ORDER BY detail) FROM apm.contract
		WHERE item IN ('purpose', 'reason') GROUP BY 1 ORDER BY 1)),
	"purpose|7|0|0|1|treatment payment operations emergency patient-request audit research\n"
	  . 'reason|10|0|0|1|unconscious life-threatening danger-to-others disaster other-emergency '
	  . 'no-longer-needed consent-withdrawn objection unlawful legal-obligation',
	'the lists of a new chain');

mine('patients', "pool_patient('p1')", "pool_patient('p2')");
my ($granted, $withdrawn) = mine('consents', consent('clerk', $registrar, 1, 'p1', 'nurse'), consent('clerk', $registrar, 2, 'p2', undef));
is(verdict($_), 'valid', 'a consent') foreach $granted, $withdrawn;

my $token = '\x' . '11' x 16;
my $other = '\x' . '22' x 16;
my $both = '\x' . '11' x 16 . '22' x 16;
my @verdicts = map { verdict($_) } mine('records', record('p1', 'ward', $token), record('p2', 'ward', $both), record('p2', 'ward'));
is("@verdicts", 'valid valid valid', 'records, before there is a rule about them');

my ($changed) = mine('a change', contract(rule('few-records', 2, 2, 3600, 4), policy(7, 3)));
is(verdict($changed), 'valid', 'a change of the contract');
my $change_height = sql("SELECT height FROM apm.ledger WHERE tid = '$changed'");

is( sql(q(SELECT kind, detail, since FROM apm.contract WHERE item = 'rule')),
	qq(primary|{"lt": [{"count": "actor.records", "within": 3600}, 4]}|$change_height), 'the site rule, read back');
is(sql(q(SELECT detail, since FROM apm.contract WHERE name = 'query_rate')), "3|$change_height", 'and the policy');

# --- what the contract judges by now
@verdicts = map { verdict($_) } mine('more records', record('p1', 'ward'), record('p1', 'ward'), record('p2', 'outpatients', $other));
is("@verdicts", 'valid few-records valid', q(the counter goes on within the block, and is the actor's own));

my ($found) = mine('a search', ask('doctor', $clinician, $search, undef, tokens => $token));
my ($matched, $barred) = mine('matches', ask('doctor', $clinician, $match, 'p1', basis => $found),
	ask('doctor', $clinician, $match, 'p2', basis => $found));
is(verdict($found), 'valid', 'a search');
is(verdict($matched), 'valid', 'a match');
is(verdict($barred), 'consent', 'not of who withdrew');

my ($alarm, $others, $early) = mine('emergencies', ask('doctor', $clinician, $emergency, 'p1', purpose => 4, reason => 2),
	ask('doctor', $clinician, $emergency, 'p2', purpose => 4, reason => 2), ask('doctor', $clinician, $records, 'p1'));
is(verdict($alarm), 'valid', 'an emergency');
is(verdict($others), 'consent', 'not of who withdrew');
is(verdict($early), 'rate', 'the emergency counts for the rate');
my ($later, $nurse) = mine('reads', ask('doctor', $clinician, $records, 'p1'), ask('nurse', 0, $records, 'p1'));
is(verdict($later), 'rate', 'in another block as well');
is(verdict($nurse), 'valid', 'a reader by consent');
mine('a revocation', consent('clerk', $registrar, 2, 'p1', 'nurse'));
is(verdict((mine('a read', ask('nurse', 0, $records, 'p1')))[0]), 'consent', 'the later word counts: a revocation');
mine('another grant', consent('clerk', $registrar, 1, 'p1', 'nurse'));
is(verdict((mine('a read', ask('nurse', 0, $records, 'p1')))[0]), 'valid', 'the later word counts: a grant');

my ($own, $reviewed, $again) = mine('reviews', consent('doctor', $auditor, 3, 'p1', undef, reviewed => $alarm),
	consent('auditor', $auditor, 3, 'p1', undef, reviewed => $alarm), consent('auditor', $auditor, 3, 'p1', undef, reviewed => $alarm));
is(join(' ', map { verdict($_) } $own, $reviewed, $again), 'self valid basis', 'reviews: of his own, by another, a second time');

my @released = mine('releases', release(1), release(2), release(2), ask('miner', $researcher, $export, 'p1', purpose => 7),
	ask('miner', $researcher, $export, 'p2', purpose => 7));
is(join(' ', map { verdict($_) } @released), 'valid valid release valid consent', 'releases, and the patients in them');

my ($dropped) = mine('another change', contract(drop('few-records'), policy(2, 2), policy(7, 0)));
is(verdict($dropped), 'valid', 'the rule is dropped');
@verdicts = map { verdict($_) } mine('after', record('p1', 'ward'), ask('doctor', $clinician, $records, 'p1'), ask('nurse', 0, $records, 'p1'));
is("@verdicts", 'valid consent valid', 'nothing of it holds any more');

# --- counters of patients
mine('rules', contract(rule('few-queries', 3, 4, 0, 2), rule('few-visits', 2, 5, 3600, 4)));
@verdicts = map { verdict((mine('a history', ask('auditor', $auditor, $history, 'p2')))[0]) } 1 .. 3;
is("@verdicts", 'valid valid few-queries', q(a patient's queries ever, block by block));
@verdicts = map { verdict((mine('a record', record('p2', 'ward')))[0]) } 1 .. 2;
is("@verdicts", 'valid few-visits', q(a patient's records of the last hour));
mine('no rules', contract(drop('few-queries'), drop('few-visits')));

# --- a window passes: sooner or later one more is let in, and the counter ever does not matter
mine('rules', contract(rule('one-record', 2, 2, 1, 1), rule('one-query', 3, 4, 1, 1)));
foreach my $try (sub { record('p1', 'ward') }, sub { ask('auditor', $auditor, $history, 'p1') })
{
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	my %seen;

	$seen{ verdict((mine('one more', $try->()))[0]) }++ while ($seen{valid} // 0) < 2 && time() < $deadline;
	is($seen{valid}, 2, 'after a while another one is let in') or diag(explain(\%seen));
}
mine('no rules', contract(drop('one-record'), drop('one-query')));
is(verdict((mine('an item that is not there', contract(drop('few-records'))))[0]), 'item', 'what is not in force cannot be dropped');

# --- every form of an item is spelled out as it was meant
sub bytes_of { return q{decode('} . unpack('H*', join('', @_)) . q{', 'hex')} }
sub counted { return pack('N/a*', $_[0]) }

my $condition = join('', "\x01\x05", "\x02\x02", "\x0b\x00\x04", "\x0b\x00\x11",
	"\x03\x04\x0e\x05\x0d", counted('audit'), "\x0a\x0f", counted('ward'), "\x02\x0d", counted('a'), "\x0d", counted('b'),
	"\x09\x0c", pack('q>', -5), "\x0e\x01", "\x05\x10\x01", pack('N', 0), "\x0c", pack('q>', 7));
my $fields = join('', "\x03", counted('bed'), "\x01\x01", pack('q>q>', -1, 9), counted('night'), "\x02\x00",
	counted('ward'), "\x03\x00\x02", counted('a'), counted('b'));
my $check = '{"codes":["a"]}';
my ($spelled) = mine('items', contract(
	bytes_of("\x05", counted('long-one'), "\x03", counted($condition)),
	bytes_of("\x04", counted('visit'), "\x02", counted($fields)),
	bytes_of("\x06", counted('ward-known'), counted('Ward'), counted($check), "\x02"),
	bytes_of("\x02", pack('n', 9), counted('teaching'))));
is(verdict($spelled), 'valid', 'items of all kinds');
is( sql(q(SELECT c.item, c.name, c.kind, c.detail FROM apm.contract AS c
		WHERE c.since = (SELECT max(since) FROM apm.contract) ORDER BY c.item)),
	join("\n",
		'data rule|ward-known||{"check": {"codes": ["a"]}, "attribute": "Ward", "violation": "flag"}', 'purpose|teaching||9',
		'rule|long-one|query|{"and": [{"or": [{"role": ["apm_clinician"]}, {"role": ["apm_admin", "apm_researcher"]}]}, '
		  . '{"not": {"eq": [{"field": "purpose"}, "audit"]}}, {"in": [{"public": "ward"}, ["a", "b"]]}, '
		  . '{"ge": [-5, {"field": "hour"}]}, {"ne": [{"count": "actor.queries"}, 7]}]}',
		'template|visit|primary|{"bed": {"most": 9, "type": "integer", "least": -1, "required": true}, '
		  . '"ward": {"type": "code", "codes": ["a", "b"], "required": false}, "night": {"type": "boolean", "required": false}}'),
	'as people read them');

# --- names of site rules
is(sql('SELECT rule, meaning FROM apm.refused WHERE rule = $$few-records$$'),
	'few-records|a rule that was added to the contract does not hold', 'a site rule that was dropped keeps its name');
is(sql('SELECT apm.rule_name(1000::smallint), apm.rule_name(1002::smallint), apm.rule_name(1999::smallint), apm.rule_name(5::smallint)'),
	'few-records|few-visits||fresh', 'names by number');

# --- it verifies, from any block to any
is(sql('SELECT ok, fault IS NULL FROM apm_verify()'), 't|t', 'the ledger verifies');
is( sql(q(SELECT count(*) FILTER (WHERE NOT v.ok), count(*) > 50 FROM apm.block AS a JOIN apm.block AS b ON b.height >= a.height,
		LATERAL apm_verify(a.height, b.height) AS v)),
	'0|t', 'each part of it as well');

# --- a dump restores whichever comes first: blocks, or the contract that they are held against
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('clinic') ], 'a dump');
my ($list) = run_command([ 'pg_restore', '-l', $dump ]);
my @blocks = grep { /TABLE DATA apm block / } split(/\n/, $list);
my @others = grep { !/TABLE DATA apm block / } split(/\n/, $list);
is(scalar(@blocks), 1, 'it has blocks');
foreach my $order ([ 'first', @blocks, @others ], [ 'last', @others, @blocks ])
{
	my ($when, @lines) = @$order;

	append_to_file("$dump.$when", join("\n", @lines, ''));
	$node->safe_psql('postgres', "CREATE DATABASE $when");
	$node->safe_psql($when, 'CREATE EXTENSION apm CASCADE');
	$node->command_ok([ 'pg_restore', '-e', '--data-only', '-L', "$dump.$when", '-d', $node->connstr($when), $dump ], "blocks $when");
	is(query($node, $when, 'SELECT ok, fault FROM apm_verify()'), 't|', 'the copy verifies');
	is( query($node, $when, q(SELECT string_agg(c::text, ',') FROM apm.contract AS c)), sql(q(SELECT string_agg(c::text, ',') FROM apm.contract AS c)),
		'and has the same contract');
}

# --- derived rows: each table with one column after the other changed, a row that is gone, a row too many
my %spoilt = (
	contract_item => {
		where => 'height = 4 AND ordinal = 1',
		height => 'height + 1', position => 'position + 1', ordinal => 'ordinal + 1', item => flip('item', 10), block_time => 'block_time + 1' },
	ledger_token => { where => "token = '$other'", token => flip('token', 0), rid => 'gen_random_uuid()' },
	ledger_query => {
		where => q(scope = 4 AND rule = 0),
		tid => 'gen_random_uuid()', apid => q('p2'), scope => 'scope + 1', rule => '1', actor => flip('actor', 0), acting => flip('acting', 0),
		height => 'height + 1', position => 'position + 1' },
	ledger_consent => {
		where => 'action = 3',
		height => 'height - 1', position => 'position + 9', tid => 'gen_random_uuid()', apid => q('p2'), action => '2', grantee => flip('grantee', 0),
		purpose => '1', until_us => '1', reviewed => 'gen_random_uuid()', finding => '2', actor => flip('actor', 0) },
	ledger_export => {
		where => 'release = 2',
		study => flip('study', 0), release => '3', tid => 'gen_random_uuid()', parameters => q('{ }'), rows => 'rows + 1',
		digest => flip('digest', 0), actor => flip('actor', 0), height => 'height + 1', position => 'position + 1' },
	ledger_count => {
		where => 'counter = 2 AND total = 3',
		counter => '3', actor => flip('actor', 15), height => 'height + 1', total => 'total + 1' });
my %added = (
	contract_item => 'SELECT height, position, ordinal + 1000, item, block_time FROM apm.contract_item WHERE ordinal = 0 AND height = 0',
	ledger_token => 'SELECT token, gen_random_uuid() FROM apm.ledger_token LIMIT 1',
	ledger_query => 'SELECT gen_random_uuid(), apid, scope, rule, actor, acting, height, position FROM apm.ledger_query LIMIT 1',
	ledger_consent => q(SELECT height, position + 1000, tid, 'p3', 1, grantee, purpose, until_us, NULL, 0, actor FROM apm.ledger_consent LIMIT 1),
	ledger_export => q(SELECT '\x00', release, tid, parameters, rows, digest, actor, height, position FROM apm.ledger_export LIMIT 1),
	ledger_count => q(SELECT counter, '\x00', height, total FROM apm.ledger_count LIMIT 1));
finds_spoilt_rows($node, 'clinic', \%spoilt, \%added);
finds(q(UPDATE apm.ledger_query SET apid = 'p1' WHERE scope = 3), 'derived: apm.ledger_query', 'a patient in a search');
finds(q(UPDATE apm.ledger_query SET apid = NULL WHERE scope = 4 AND rule = 0), 'derived: apm.ledger_query', 'a match without a patient');
finds(q(DELETE FROM apm.contract_item WHERE height > 0), 'derived', 'all changes of the contract gone');
finds(q(UPDATE apm.ledger_count AS c SET total = total + 1 WHERE counter = 1), 'derived: apm.ledger_count', 'a counter that began with one');

# changes before the part that is verified
foreach my $change ("UPDATE apm.contract_item SET block_time = block_time - 1 WHERE height = $change_height",
	"UPDATE apm.contract_item SET item = " . policy(7, 4) . " WHERE height = $change_height AND ordinal = 1",
	"DELETE FROM apm.contract_item WHERE height = $change_height")
{
	like( sql("BEGIN; ALTER TABLE apm.contract_item DISABLE TRIGGER ALL; $change; SELECT ok, rule || ': ' || fault FROM apm_verify($change_height + 1); ROLLBACK"),
		qr/^f\|derived/, 'found from a later block on, too');
}

# --- each byte and each bit
finds_every_change($node, 'clinic', 'contract_item', 'item', 'bytea', "height = $change_height");
finds_every_change($node, 'clinic', 'contract_item', 'block_time', 'bigint', "height = $change_height AND ordinal = 0");
finds_every_change($node, 'clinic', 'ledger_token', 'token', 'bytea', "token = '$other'");
finds_every_change($node, 'clinic', 'ledger_query', $_, 'bytea', 'scope = 6 AND rule = 0') foreach qw(actor acting);
finds_every_change($node, 'clinic', 'ledger_query', $_, 'smallint', 'scope = 6') foreach qw(scope rule);
finds_every_change($node, 'clinic', 'ledger_consent', $_, 'bytea', 'action < 3') foreach qw(grantee actor);
finds_every_change($node, 'clinic', 'ledger_consent', $_, 'smallint', 'true') foreach qw(action purpose finding);
finds_every_change($node, 'clinic', 'ledger_consent', 'until_us', 'bigint', 'action = 1');
finds_every_change($node, 'clinic', 'ledger_export', $_, 'bytea', 'release = 1') foreach qw(study parameters digest actor);
finds_every_change($node, 'clinic', 'ledger_export', 'rows', 'bigint', 'release = 1');
finds_every_change($node, 'clinic', 'ledger_count', 'total', 'bigint', 'counter = 3');
is(sql('SELECT ok FROM apm_verify()'), 't', 'all of this was rolled back');

done_testing();
