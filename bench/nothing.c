/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest program: what its exec costs is what exec costs. Static. */
int main(void)
{
    return 0;
}
