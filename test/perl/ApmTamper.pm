=pod

=head1 NAME

ApmTamper - what apm_verify() finds of changes made behind the guards' backs

=head1 SYNOPSIS

  use ApmTamper;

  finds_tampering($node, 'clinic', q(DELETE FROM apm.body WHERE ...), 'missing', 'a missing body');
  finds_tampering($node, 'clinic', q(DELETE FROM apm.ledger_record WHERE ...), 'derived: apm.ledger_record', 'a missing record');
  finds_every_change($node, 'clinic', 'leaf', 'rule', 'smallint', 'position = 1');
  finds_spoilt_rows($node, 'clinic', { member => { where => 'height = 0', home => flip('home', 0), ... } }, { member => 'SELECT ...' });

=head1 DESCRIPTION

Each change is made in a transaction that is rolled back, with the guards off.  What must be found is a rule of src/core/fault.h, or
several as a regular expression, and where a table is to be told the begin of the sentence too.

=cut

package ApmTamper;

use strict;
use warnings;

use Exporter 'import';
use ApmTest;
use Test::More;

our @EXPORT = qw(finds_tampering finds_every_change finds_spoilt_rows flip guards_off);

# Tables that apm_verify() answers for.
my @tables = qw(block leaf body tip member contract_item ledger_patient ledger_profile ledger_void ledger_record ledger_token
  ledger_query ledger_consent ledger_export ledger_count chain profile);
my $guards_off = join('', map { "ALTER TABLE apm.$_ DISABLE TRIGGER ALL;" } @tables);

# What comes before a change in its transaction.
sub guards_off { return $guards_off }

# Makes a change and asks what apm_verify() finds.
sub finds_tampering
{
	my ($node, $database, $change, $fault, $name) = @_;
	my $found = query($node, $database, "BEGIN; $guards_off $change; SELECT ok, rule || ': ' || fault FROM apm_verify(); ROLLBACK");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($found, qr/^f\|(?:$fault)\b/, $name);
}

# Rows of derived tables: each column spoilt, a row gone, a row too many.  $spoilt has for a table every column with an expression for
# what is put there, and under where which rows; $added has for a table what selects a row too many.
sub finds_spoilt_rows
{
	my ($node, $database, $spoilt, $added) = @_;

	foreach my $table (sort keys %$spoilt)
	{
		my %columns = %{ $spoilt->{$table} };
		my $where = delete $columns{where};

		is( query($node, $database, "SELECT count(*) > 0, count(DISTINCT c.column_name) = " . scalar(keys %columns)
				  . " FROM apm.$table, information_schema.columns AS c WHERE c.table_schema = 'apm' AND c.table_name = '$table' AND $where"),
			't|t', "every column of $table");
		foreach my $column (sort keys %columns)
		{
			finds_tampering($node, $database, "UPDATE apm.$table SET $column = $columns{$column} WHERE $where", '(derived|row)',
				"$table: another $column");
		}
		finds_tampering($node, $database, "DELETE FROM apm.$table WHERE $where", '(derived|row)', "$table: a row that is gone");
		finds_tampering($node, $database, "INSERT INTO apm.$table $added->{$table}", '(derived|row)', "$table: a row too many");
	}
	return;
}

# Each byte of a column, and each bit of a number, changed one at a time, in the rows of which a condition is true.
sub finds_every_change
{
	my ($node, $database, $table, $column, $type, $condition) = @_;
	my $made = query($node, $database, q(
		CREATE OR REPLACE FUNCTION pg_temp.unfound(tab text, col text, type text, cond text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			target record;
			found boolean := false;
			missed text := '';
			steps integer;
			change text;
		BEGIN
			FOR target IN EXECUTE format('SELECT ctid, octet_length(%I::%s) AS len FROM apm.%I WHERE %s', col,
				CASE type WHEN 'bytea' THEN 'bytea' ELSE 'text' END, tab, cond)
			LOOP
				found := true;
				steps := CASE type WHEN 'bytea' THEN target.len WHEN 'smallint' THEN 16 WHEN 'integer' THEN 32 ELSE 64 END;
				FOR i IN 0 .. steps - 1 LOOP
					change := CASE type WHEN 'bytea' THEN format('set_byte(%1$I, %2$s, get_byte(%1$I, %2$s) # (1 << (%2$s %% 8)))', col, i)
						ELSE format('%I # %L::%s', col, trunc(2 ^ i::numeric - CASE WHEN i = steps - 1 THEN 2 ^ steps::numeric ELSE 0 END), type) END;
					BEGIN
						EXECUTE format('UPDATE apm.%I SET %I = %s WHERE ctid = %L', tab, col, change, target.ctid);
						IF (SELECT ok FROM apm_verify()) THEN
							missed := missed || format(' %s.%s:%s', tab, col, i);
						END IF;
						RAISE EXCEPTION USING ERRCODE = 'UND00';
					EXCEPTION WHEN SQLSTATE 'UND00' OR check_violation OR unique_violation THEN
						NULL;
					END;
				END LOOP;
			END LOOP;
			RETURN CASE WHEN found THEN missed ELSE 'no row' END;
		END $$;) . "BEGIN; $guards_off SELECT pg_temp.unfound('$table', '$column', '$type', \$q\$$condition\$q\$); ROLLBACK");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($made, '', "every change of $table.$column is found");
}

# The SQL expression of a bytea column with one bit of one byte flipped.
sub flip
{
	my ($column, $byte) = @_;
	return "set_byte($column, $byte, get_byte($column, $byte) # 1)";
}

1;
