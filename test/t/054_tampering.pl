# Whoever holds the stores can alter them; every alteration is found on reading, named by
# kind and record, and nothing of the patient is given out.
use strict;
use warnings;

use ApmTest;
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital');
my $stored = q{SELECT count(*) = 4 AND NOT EXISTS (SELECT FROM apm.outbox) FROM apm.cloud_record};

sub superuser
{
	return $node->safe_psql('clinic', $_[0]);
}

my $module = "$FindBin::RealBin/../modules/test_records";
superuser(qq{
	CREATE FUNCTION test_reseal(bytea, int) RETURNS bytea LANGUAGE c AS '$module', 'test_reseal';
	CREATE ROLE doctor; GRANT apm_clinician TO doctor;
	CREATE ROLE clerk; GRANT apm_registrar TO clerk;});
query($node, 'clinic', q{SELECT apm_register_patient(pid, jsonb_build_object('Firstname', name))
	FROM (VALUES ('a', 'Amina'), ('b', 'Bilal')) AS v (pid, name)}, 'clerk');
query($node, 'clinic', q{INSERT INTO apm.patient_record (pid, record, rid) VALUES
	('a', '"a1"', '01890000-0000-7000-8000-0000000000a1'), ('a', '"a2"', '01890000-0000-7000-8000-0000000000a2'),
	('b', '"b1"', '01890000-0000-7000-8000-0000000000b1'), ('b', '"b2"', '01890000-0000-7000-8000-0000000000b2')}, 'doctor');
wait_for($node, 'clinic', $stored, 'the records are in the cloud');

my $fetch = q{SELECT string_agg(record #>> '{}', ' ' ORDER BY record) FROM apm_fetch('a')};
is(query($node, 'clinic', $fetch, 'doctor'), 'a1 a2', 'untouched, they are read');

# Alters something, expects an error, and puts everything back as it was.
superuser(q{CREATE TABLE kept_cloud AS TABLE apm.cloud_record; CREATE TABLE kept_patient AS TABLE apm.patient;
	CREATE TABLE kept_profile AS TABLE apm.profile});

sub found
{
	my ($name, $alter, $state, $pattern) = @_;

	superuser($alter);
	fails_with($node, 'clinic', $fetch, $state, $pattern, $name, 'doctor');
	superuser(q{TRUNCATE apm.cloud_record, apm.patient, apm.profile;
		INSERT INTO apm.cloud_record TABLE kept_cloud; INSERT INTO apm.patient TABLE kept_patient;
		INSERT INTO apm.profile TABLE kept_profile});
	return is(query($node, 'clinic', $fetch, 'doctor'), 'a1 a2', "$name: put back, it is read");
}

my $a1 = q{'01890000-0000-7000-8000-0000000000a1'};
my $a2 = q{'01890000-0000-7000-8000-0000000000a2'};
my $b1 = q{'01890000-0000-7000-8000-0000000000b1'};

found('a record that is gone', qq{DELETE FROM apm.cloud_record WHERE rid = $a1},
	'AP005', qr/record 01890000-0000-7000-8000-0000000000a1 does not match the ledger.*is missing/s);
foreach my $at (0, 100, 500, 700, 900, 1100)
{
	found("a bit flipped at $at", qq{UPDATE apm.cloud_record SET apr = set_byte(apr, $at, get_byte(apr, $at) # 1) WHERE rid = $a2},
		'AP005', qr/record 01890000-0000-7000-8000-0000000000a2 .*was altered/s);
}
found('the last bit flipped', qq{UPDATE apm.cloud_record SET apr = set_byte(apr, length(apr) - 1, get_byte(apr, length(apr) - 1) # 1)
	WHERE rid = $a2}, 'AP005', qr/was altered/);
found('a byte more', qq{UPDATE apm.cloud_record SET apr = apr || '\\x00' WHERE rid = $a2}, 'AP005', qr/was altered/);
found('a byte less', qq{UPDATE apm.cloud_record SET apr = substr(apr, 1, length(apr) - 1) WHERE rid = $a2}, 'AP005', qr/was altered/);
found('a tag less', qq{UPDATE apm.cloud_record SET apr = substr(apr, 1, length(apr) - 16) WHERE rid = $a2}, 'AP005', qr/was altered/);
found('garbage', qq{UPDATE apm.cloud_record SET apr = '\\x45' WHERE rid = $a2}, 'AP005', qr/was altered/);
# the cloud's operator may have PK_APM, and seal what he likes: another nonce, another form
found('sealed anew with a bit flipped in the nonce', qq{UPDATE apm.cloud_record SET apr = test_reseal(apr, 10) WHERE rid = $a2},
	'AP005', qr/was altered/);
found('sealed anew in another form', qq{UPDATE apm.cloud_record SET apr = test_reseal(apr, 0) WHERE rid = $a2},
	'AP005', qr/was altered/);
found('two records of one patient swapped',
	qq{UPDATE apm.cloud_record AS c SET apr = k.apr FROM kept_cloud AS k
		WHERE (c.rid, k.rid) IN (($a1, $a2), ($a2, $a1))}, 'AP005', qr/belongs to another record/);
found(q{another patient's record}, qq{UPDATE apm.cloud_record AS c SET apr = k.apr FROM kept_cloud AS k
	WHERE c.rid = $a1 AND k.rid = $b1}, 'AP005', qr/belongs to another record/);
found('names swapped, sealed profiles and all',
	q{UPDATE apm.profile AS f SET sealed = k.sealed FROM kept_profile AS k WHERE f.apid <> k.apid},
	'AP005', qr/the patient's profile does not match the ledger.*was altered/s);
found('a profile that is gone', q{DELETE FROM apm.profile}, 'AP005', qr/profile does not match the ledger.*is missing/s);
found('a bit of the profile', q{UPDATE apm.profile SET sealed = set_byte(sealed, 80, get_byte(sealed, 80) # 1)},
	'AP005', qr/profile does not match the ledger.*was altered/s);
found('keys swapped', q{UPDATE apm.patient AS p SET wrapped_key = k.wrapped_key FROM kept_patient AS k WHERE p.apid <> k.apid},
	'AP004', qr/could not open the patient's key/);
found('a patient pointed at another',
	q{DELETE FROM apm.patient; INSERT INTO apm.patient (index_key, apid, identity, wrapped_key, generation, registered_at)
		SELECT i.index_key, p.apid, p.identity, p.wrapped_key, p.generation, p.registered_at
		FROM kept_patient AS p JOIN kept_patient AS i ON p.apid <> i.apid},
	'AP005', qr/profile does not match the ledger.*another patient's/s);

# an aPR by itself: opened only if it is whole, an origin's, and through the gate
my $apr = query($node, 'clinic', q{SELECT apm_anonymize('a', '{"x": 1}')}, 'doctor');
is(query($node, 'clinic', qq{SELECT apm_deanonymize('$apr')}, 'doctor'), '{"x": 1, "Firstname": "Amina"}', 'an aPR is opened');
superuser(q{CREATE ROLE auditor; GRANT apm_auditor TO auditor});
like(query($node, 'clinic', qq{SELECT apm_jwe('$apr')}, 'auditor'), qr/^eyJ[\w-]+\.[\w-]{512}\.[\w-]{16}\.[\w-]+\.[\w-]{22}$/,
	'as a JWE it has the five parts of its compact form');
fails_with($node, 'clinic', q{SELECT apm_jwe('\x4501')}, 'XX001', qr/could not write the envelope as a JWE/, 'what is no envelope',
	'auditor');
my $cloud = superuser("SELECT apr FROM apm.cloud_record WHERE rid = $a1");
is(query($node, 'clinic', qq{SELECT apm_deanonymize('$cloud', 'audit')}, 'doctor'), '"a1"', q{the cloud's too});
my $queries = superuser(q{SELECT count(*) FROM apm.leaf WHERE kind = 3});
query($node, 'clinic', qq{BEGIN; SELECT apm_deanonymize('$apr'); ROLLBACK}, 'doctor');
is(superuser(q{SELECT count(*) FROM apm.leaf WHERE kind = 3}), $queries + 1, 'and leaves its trace');
fails_with($node, 'clinic', qq{SELECT apm_deanonymize(set_byte('$apr', 900, get_byte('$apr', 900) # 1))}, 'AP004',
	qr/could not open the aPR/, 'an altered aPR', 'doctor');
fails_with($node, 'clinic', q{SELECT apm_deanonymize('')}, 'AP004', qr/could not open the aPR/, 'an empty aPR', 'doctor');
superuser(q{DELETE FROM apm.member WHERE member = 2});
fails_with($node, 'clinic', qq{SELECT apm_deanonymize('$apr')}, 'AP005', qr/who made the record/, q{a stranger's aPR}, 'doctor');

done_testing();
