# Changing the contract, told from an administrator's session: policies, purposes, reasons,
# templates, rules and data rules come into force with their blocks, judge what comes after, and go.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', setup => 0);
$node->safe_psql('clinic', 'SELECT apm_setup(8)');
$node->safe_psql('postgres', q{
	CREATE ROLE chief LOGIN; GRANT apm_admin TO chief;
	CREATE ROLE clerk LOGIN; GRANT apm_registrar TO clerk;
	CREATE ROLE doctor LOGIN; GRANT apm_clinician TO doctor;
	CREATE ROLE nurse LOGIN; GRANT apm_clinician TO nurse;
	CREATE ROLE auditor LOGIN; GRANT apm_auditor TO auditor});
in_session($node, 'clinic', 'clerk', q{SELECT apm_register_patient('a', '{"Firstname": "Amina"}')});
in_session($node, 'clinic', 'doctor', q{INSERT INTO apm.patient_record VALUES ('a', '{"Disease": "Fever"}')});
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.ledger_record', 'the record is there');

sub digest
{
	return $node->safe_psql('clinic', q{SELECT contract FROM apm.block_info ORDER BY height DESC LIMIT 1});
}

# Makes a change as an administrator, waits until it is in a block, and sees that it is another contract.
sub change
{
	my ($call, $name) = @_;
	my $before = digest();
	my $tid = in_session($node, 'clinic', 'chief', "SELECT $call");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	subtest $name => sub {
		ok(poll($node, 'clinic', "SELECT count(*) = 1 FROM apm.leaf WHERE tid = '$tid'"), 'it is in a block');
		is($node->safe_psql('clinic', "SELECT rule FROM apm.leaf WHERE tid = '$tid'"), '0', 'the contract admits it');
		isnt(digest(), $before, 'the header has another digest of the contract');
	};
	return;
}

# What apm.contract shows of one item, as text; '' when it is not in force.
sub shown
{
	my ($item, $name) = @_;
	return in_session($node, 'clinic', 'auditor', "SELECT detail FROM apm.contract WHERE item = '$item' AND name = '$name'");
}

my $fetch = q{SELECT count(*) FROM apm_fetch('a', %s)};

sub reads
{
	my ($role, $arguments, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(in_session($node, 'clinic', $role, sprintf($fetch, $arguments)), '1', $name);
}

sub refused
{
	my ($role, $arguments, $rule, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return fails_in_session($node, 'clinic', $role, sprintf($fetch, $arguments), 'AP001', qr/rule "$rule"/, $name);
}

# --- who may
foreach my $call (
	q{apm_set_policy('access', 'consent')}, q{apm_add_purpose('teaching')}, q{apm_add_reason('flood')},
	q{apm_add_template('t', 'query', '{"ward": {"type": "boolean"}}')}, q{apm_drop_template('t')},
	q{apm_add_rule('r', 'query', '{"role": "clinician"}')}, q{apm_drop_rule('r')},
	q{apm_add_data_rule('d', 'pulse', '{"range": [0, 300]}')}, q{apm_drop_data_rule('d')})
{
	fails_in_session($node, 'clinic', 'doctor', "SELECT $call", '42501', qr/permission denied/, "no clinician: $call");
	fails_with($node, 'clinic', "SELECT $call", '42501', qr/permission denied to change the contract/,
		'nor a superuser who is no administrator');
}

# --- policies
is(shown('policy', 'access'), '"clinician"', 'the policy of the genesis block is shown');
change(q{apm_set_policy('purpose', 'required')}, 'a policy is set');
is(shown('policy', 'purpose'), '"required"', 'and shown');
refused('doctor', 'NULL', 'purpose', 'a purpose is required now');
reads('doctor', q{'treatment'}, 'and one that is stated will do');
change(q{apm_set_policy('purpose', 'optional')}, 'and set back');
reads('doctor', 'NULL', 'none is required any more');
change(q{apm_set_policy('query_rate', '1')}, 'a rate is set');
refused('doctor', 'NULL', 'rate', 'who asked before asks too much');
change(q{apm_set_policy('query_rate', '0')}, 'and lifted');

# --- purposes and reasons: the chain gives the codes, also to two of one statement
fails_in_session($node, 'clinic', 'doctor', sprintf($fetch, q{'teaching'}), '22023', qr/no such purpose/, 'not on the list');
my $old = $node->background_psql('clinic');
$old->query_safe(q{SET ROLE doctor; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1});
change(q{apm_add_purpose('teaching') FROM apm_add_purpose('billing')}, 'two purposes are added');
is(shown('purpose', 'teaching') + shown('purpose', 'billing'), 17, 'with the next two codes');
reads('doctor', q{'teaching'}, 'a new purpose can be stated');
is($old->query_safe(sprintf($fetch, q{'teaching'})), '1', 'by a transaction as well that began before');
$old->query_safe('ROLLBACK');
$old->quit;
change(q{apm_add_reason('flood')}, 'a reason is added');
is(shown('reason', 'flood'), '11', 'with the next code');
is($node->safe_psql('clinic', q{SELECT count(*) FROM apm.contract WHERE since IS NULL AND item <> 'policy'}), '0',
	'of every item the view tells the block that brought it');

# --- a rule that limits a clinician's queries
my $limit = q({"or": [{"not": {"role": ["apm_clinician"]}}, {"lt": [{"count": "actor.queries", "within": 3600}, %d]}]});
my $asked = $node->safe_psql('clinic', q{SELECT max(total) FROM apm.ledger_count WHERE counter = 1});
change(sprintf("apm_add_rule('doctor-rate', 'query', '$limit')", $asked + 2), 'a rule is added');
is(shown('rule', 'doctor-rate'), sprintf($limit, $asked + 2), 'and shown as it was written');
reads('doctor', 'NULL', "one query");
reads('doctor', 'NULL', "two queries");
refused('doctor', 'NULL', 'doctor-rate', 'the third is too many');
reads('nurse', 'NULL', 'another clinician has queries of her own');
is(in_session($node, 'clinic', 'auditor', q{SELECT count(*) > 3 FROM apm_access_history('a')}), 't', 'who is none is not limited');
is(in_session($node, 'clinic', 'auditor', q{SELECT DISTINCT rule FROM apm.ledger WHERE rule ~ '^doctor'}), 'doctor-rate',
	'the ledger shows which rule refused');
change(sprintf("apm_add_rule('doctor-rate', 'query', '$limit')", $asked + 3), 'a rule of that name replaces it');
reads('doctor', 'NULL', 'the limit is another now');
refused('doctor', 'NULL', 'doctor-rate', 'and then reached');

# --- what is rolled back, and what is undone before its block, changes nothing
my $digest = digest();
in_session($node, 'clinic', 'chief', q{BEGIN; SELECT apm_drop_rule('doctor-rate'); ROLLBACK});
refused('doctor', 'NULL', 'doctor-rate', 'a change that was rolled back is none');
is(digest(), $digest, 'the contract is the same');

# --- a restart
$node->restart('immediate');
refused('doctor', 'NULL', 'doctor-rate', 'the rule holds after a restart');
is($node->safe_psql('clinic', 'SELECT ok FROM apm_verify()'), 't', 'and the chain verifies');
change(q{apm_drop_rule('doctor-rate')}, 'the rule is dropped');
reads('doctor', 'NULL', 'and judges nobody any more');
is(in_session($node, 'clinic', 'auditor', q{SELECT DISTINCT rule FROM apm.ledger WHERE rule ~ '^doctor'}), 'doctor-rate',
	'what it refused keeps its name');

# --- templates, and a rule that asks for what they bring
refused('doctor', q{NULL, false, '{"ward": "icu"}'}, 'template', 'no template, no public fields');
change(q{apm_add_template('ward', 'query', '{"ward": {"type": "code", "codes": ["icu", "er"], "required": true},
	"bed": {"type": "integer", "least": 1, "most": 9}}')}, 'a template is added');
is(shown('template', 'ward'), '{"bed": {"most": 9, "type": "integer", "least": 1, "required": false}, '
		. '"ward": {"type": "code", "codes": ["er", "icu"], "required": true}}', 'and shown');
reads('doctor', q{NULL, false, '{"ward": "icu"}'}, 'a query carries the ward');
reads('doctor', q{NULL, false, '{"ward": "er", "bed": 3}'}, 'and a bed, if it likes');
refused('doctor', q{NULL, false, '{"ward": "morgue"}'}, 'template', 'a ward that is none');
refused('doctor', q{NULL, false, '{"ward": "er", "bed": 10}'}, 'template', 'a bed out of bounds');
refused('doctor', q{NULL, false, '{"bed": 3}'}, 'template', 'a field that must be there');
reads('doctor', 'NULL', 'what was made without knowing of it passes, for a while');
change(q{apm_add_rule('icu-only', 'query', '{"or": [{"eq": [{"field": "scope"}, "history"]}, {"eq": [{"public": "ward"}, "icu"]}]}')},
	'a rule asks for the field');
refused('doctor', 'NULL', 'icu-only', 'who does not say it is refused at once');
refused('doctor', q{NULL, false, '{"ward": "er"}'}, 'icu-only', 'so is another ward');
reads('doctor', q{NULL, false, '{"ward": "icu"}'}, 'the one that it wants passes');
is(in_session($node, 'clinic', 'auditor', q{SELECT count(*) > 3 FROM apm_access_history('a')}), 't', 'what it excepts is excepted');
change(q{apm_drop_rule('icu-only')}, 'the rule is dropped');
change(q{apm_drop_template('ward')}, 'the template as well');
is(shown('template', 'ward'), '', 'and is not shown any more');

# --- data rules
change(q{apm_add_data_rule('pulse-range', 'pulse', '{"range": [0, 300]}', 'flag')}, 'a data rule is added');
is(shown('data rule', 'pulse-range'), '{"check": {"range": [0, 300]}, "attribute": "pulse", "violation": "flag"}', 'and shown');
in_session($node, 'clinic', 'doctor', q{INSERT INTO apm.patient_record VALUES ('a', '{"pulse": 400}')});
wait_for($node, 'clinic', q{SELECT count(*) = 2 FROM apm.ledger_record}, 'a record that it flags is taken');
is(in_session($node, 'clinic', 'doctor', q{SELECT flags FROM apm_fetch('a') WHERE record ? 'pulse'}), '{pulse-range}', 'and flagged');
change(q{apm_drop_data_rule('pulse-range')}, 'the data rule is dropped');

# --- what cannot be is told at once
foreach my $fault (
	[ q{apm_set_policy('mercy', 'much')}, '22023', qr/no such policy.*access, purpose, emergency/s ],
	[ q{apm_set_policy('access', '1')}, '22023', qr/cannot have this value.*"clinician", "consent"/s ],
	[ q{apm_set_policy('query_rate', '-1')}, '22023', qr/a number from 0 to/ ],
	[ q{apm_set_policy('difficulty', '1')}, '22023', qr/genesis.*"membership"/s ],
	[ q{apm_set_policy('access', NULL)}, '22004', qr/may be null/ ],
	[ q{apm_add_purpose('teaching')}, '42710', qr/on the list already/ ],
	[ q{apm_add_purpose('Teaching')}, '42602', qr/lower case/ ],
	[ q{apm_add_reason('flood')}, '42710', qr/on the list already/ ],
	[ q{apm_drop_rule('nobody')}, '42704', qr/nothing of this name.*apm\.contract/s ],
	[ q{apm_drop_template('nobody')}, '42704', qr/nothing of this name/ ],
	[ q{apm_drop_data_rule('nobody')}, '42704', qr/nothing of this name/ ],
	[ q{apm_add_rule('consent', 'query', '{"role": "clinician"}')}, '42939', qr/contract's own/ ],
	[ q{apm_add_rule('r', 'contract', '{"role": "clinician"}')}, '22023', qr/patient, primary, query, consent, export/ ],
	[ q{apm_add_template('t', 'patient', '{"ward": {"type": "boolean"}}')}, '22023', qr/primary, query, consent/ ],
	[ q{apm_add_data_rule('d', 'pulse', '{"range": 1}')}, '22023', qr/no check.*non-decreasing/s ],
	[ q{apm_add_data_rule('d', '', '{"range": [0, 1]}')}, '22023', qr/1 to 1024 bytes/ ],
	[ q{apm_add_data_rule('d', 'pulse', '{"range": [0, 1]}', 'weep')}, '22023', qr/"refuse" or "flag"/ ])
{
	my ($call, $state, $pattern) = @$fault;
	fails_in_session($node, 'clinic', 'chief', "SELECT $call", $state, $pattern, "told at once: $call");
}

# --- where in a condition the fault is
foreach my $fault (
	[ '1', '\$', 'no condition' ],
	[ '{}', '\$', 'no condition' ],
	[ '{"and": [], "or": []}', '\$', 'no condition' ],
	[ '{"xor": []}', '\$', 'no such operator' ],
	[ '{"integer": 1}', '\$', 'no such operator' ],
	[ '{"and": []}', '\$\.and', 'array of conditions' ],
	[ '{"or": [{"role": "clinician"}, {"not": {"role": "king"}}]}', '\$\.or\[1\]\.not\.role', 'no such role' ],
	[ '{"role": ["apm_admin", 3]}', '\$\.role\[1\]', 'no such role' ],
	[ '{"eq": [1]}', '\$\.eq', 'two operands' ],
	[ '{"eq": [1, null]}', '\$\.eq\[1\]', 'no operand' ],
	[ '{"eq": [1, 1.5]}', '\$\.eq\[1\]', 'fraction' ],
	[ '{"eq": [1, 9223372036854775808]}', '\$\.eq\[1\]', 'too large' ],
	[ '{"eq": [1, {"field": "mood"}]}', '\$\.eq\[1\]\.field', 'no such field.*hour, weekday' ],
	[ '{"eq": [1, {"field": "hour", "x": 1}]}', '\$\.eq\[1\]\.field', 'another member' ],
	[ '{"lt": [{"count": "tears"}, 1]}', '\$\.lt\[0\]\.count', 'no such counter.*actor\.queries' ],
	[ '{"lt": [{"count": "actor.queries", "within": 0}, 1]}', '\$\.lt\[0\]\.count', 'number of seconds' ],
	[ '{"lt": [{"count": "actor.queries", "in": 9}, 1]}', '\$\.lt\[0\]\.count', 'no other member' ],
	[ '{"and": [{"eq": [1, 1]}, {"eq": [1, "one"]}]}', '\$\.and\[1\]\.eq', 'not of one type' ],
	[ '{"lt": ["a", "b"]}', '\$\.lt', 'not of one type' ],
	[ '{"eq": [{"field": "size"}, 1]}', '\$\.eq', 'do not have them' ],
	[ '{"eq": [{"public": "Ward"}, 1]}', '\$\.eq', 'lower case' ],
	[ '{"in": [1, 2]}', '\$\.in', 'array of constants' ],
	[ '{"in": [1, []]}', '\$\.in\[1\]', 'no constant' ],
	[ '{"in": [1, [2, {"field": "hour"}]]}', '\$\.in', 'not of one type' ],
	[ '{"not":' x 8 . '{"role": "admin"}' . '}' x 8, '\$(\.not){8}', 'nested too deeply' ],
	[ '{"and": [' . join(',', ('{"eq": [1, 1]}') x 17) . ']}', '\$\.and', 'larger than a predicate' ])
{
	my ($json, $place, $pattern) = @$fault;
	fails_in_session($node, 'clinic', 'chief', "SELECT apm_add_rule('r', 'query', '$json')", '22023',
		qr/the predicate is not right at $place$(?:.*)$pattern/ms, 'no predicate: ' . substr($json, 0, 50));
}
foreach my $fault (
	[ '[]', '\$', 'object of 1 to 16 fields' ],
	[ '{}', '\$', 'object of 1 to 16 fields' ],
	[ '{"ward": 1}', '\$\.ward', 'no description' ],
	[ '{"ward": {"required": true}}', '\$\.ward', 'type of the field' ],
	[ '{"ward": {"type": "text"}}', '\$\.ward', 'type of the field' ],
	[ '{"ward": {"type": "code"}}', '\$\.ward', 'codes are missing' ],
	[ '{"ward": {"type": "code", "codes": ["a", "a"]}}', '\$\.ward', 'each is there once' ],
	[ '{"ward": {"type": "code", "codes": [1]}}', '\$\.ward\.codes', 'a code is a text' ],
	[ '{"ward": {"type": "boolean", "least": 1}}', '\$\.ward\.least', 'no such member' ],
	[ '{"ward": {"type": "boolean", "required": 1}}', '\$\.ward\.required', 'right type' ],
	[ '{"bed": {"type": "integer", "least": 2, "most": 1}}', '\$\.bed', 'least is more than most' ],
	[ '{"Bed": {"type": "integer"}}', '\$\.Bed', 'lower case' ])
{
	my ($json, $place, $pattern) = @$fault;
	fails_in_session($node, 'clinic', 'chief', "SELECT apm_add_template('t', 'query', '$json')", '22023',
		qr/the template is not right at $place$(?:.*)$pattern/msi, "no template: $json");
}

# --- a rule about patients: whom it refused is registered by somebody else, and changed
change(q{apm_add_rule('desk-only', 'patient', '{"role": "registrar"}')}, 'registrars alone register and change patients');
in_session($node, 'clinic', 'nurse', q{SELECT apm_submit('b', '{"Firstname": "Basma", "Disease": "Cold"}')});
in_session($node, 'clinic', 'chief', q{SELECT apm_update_patient('a', '{"Firstname": "Somebody"}')}) foreach (1, 2);
wait_for($node, 'clinic', q{SELECT count(*) = 3 FROM apm.refused WHERE kind = 'patient'}, 'others are refused');
fails_in_session($node, 'clinic', 'nurse', q{SELECT apm_submit('b', '{"Disease": "Cold"}')}, 'AP009', qr/no such patient/, 'who was refused is not registered');
in_session($node, 'clinic', 'clerk', q{SELECT apm_register_patient('b', '{"Firstname": "Basma B."}')});
in_session($node, 'clinic', 'clerk', q{SELECT apm_update_patient('a', '{"Firstname": "Amina B."}')});
fails_in_session($node, 'clinic', 'clerk', q{SELECT apm_register_patient('b', '{"Firstname": "Basma"}')}, 'AP014', qr/registered already/, 'now he is');
wait_for($node, 'clinic', q{SELECT string_agg(version::text, ',' ORDER BY version) FROM apm.ledger_patient}, 'the chain has both', '1,2');
wait_for($node, 'clinic', q{SELECT count(*) = 0 FROM apm.queue}, 'what waited for the patient does no longer');
is(in_session($node, 'clinic', 'nurse', q{SELECT record FROM apm_fetch('b')}), '{"Disease": "Cold", "Firstname": "Basma B."}', 'a record that came meanwhile is read');
is(in_session($node, 'clinic', 'nurse', q{SELECT DISTINCT record->>'Firstname' FROM apm_fetch('a')}), 'Amina B.', 'the profile is the one that was admitted');

is($node->safe_psql('clinic', q{SELECT ok FROM apm_verify()}), 't', 'after all of it the chain verifies');
is($node->safe_psql('clinic', q{SELECT count(*) FROM apm.quarantine}), '0', 'and nothing was put aside');
done_testing();
