/*
 * row.h
 *	  From an opened record to a line of a dataset.  For this room.
 */
#ifndef APM_EXPORT_ROW_H
#define APM_EXPORT_ROW_H

#include "export/dataset.h"

/*
 * Appends the line; false, with nothing appended, if the record has no attribute that may go
 * out.  This is where a record's values can be made coarser: what generalization will add goes
 * between choosing the values and writing them.
 */
extern bool apm_row_put(const ApmDataset *set, ApmSlice apid, uint64 recorded_us, Jsonb *record, ApmBuf *out);

#endif /* APM_EXPORT_ROW_H */
